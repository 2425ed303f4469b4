"""The process that does the numbers: the only room that imports torch, transformers, peft and bitsandbytes.

Nobody imports it. It is started by module name and speaks through files: wishes in, events out.
"""
