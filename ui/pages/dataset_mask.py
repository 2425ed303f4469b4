"""One row as the chosen base sees it: which tokens are learnt, where it is cut, and what each token is."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QWidget

from studio.models.templates import OFFERED, OWN
from ui import theme
from ui.dataset_view import DatasetView, Shown
from ui.pages.dataset_words import percent, tr
from ui.state import AppState
from ui.widgets.controls import Choice
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card
from ui.widgets.token_view import MOST_TOKENS, Token, TokenView, visible_text


def labelled(words: PlainLabel, control: QWidget) -> QWidget:
    """Words and, behind them, what they speak of."""
    row = QWidget()
    inner = QHBoxLayout(row)
    inner.setContentsMargins(0, 0, 0, 0)
    inner.setSpacing(theme.px(12))
    inner.addWidget(words, 1)
    inner.addWidget(control)
    return row


class MaskCard(Card):
    """The card beside the rows. `base_chosen` carries the id of the base to see with, `template_chosen` the chat template for one
    that has none of its own."""

    base_chosen = Signal(str)
    template_chosen = Signal(str)

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__(tr("As the model sees it"), parent=parent)
        self.body.setSpacing(theme.px(12))
        self._state, self._shown = state, Shown(-1)
        self.base = Choice(icon="cube", name=tr("Seen by"))
        self.base.setMinimumWidth(theme.px(170))
        self.base.value_changed.connect(lambda value: self.base_chosen.emit(str(value)))
        self.add_head(self.base)
        self.template = Choice([(OWN, tr("Choose one")), *OFFERED.items()], OWN, name=tr("Written out as"))
        self.template.value_changed.connect(lambda value: self.template_chosen.emit(str(value)))
        words = tr("No chat template of its own: chats are written as")
        self._bare = labelled(PlainLabel(words, "small", "text2", wrap=True), self.template)
        self._share, self._what = PlainLabel("", "number"), PlainLabel("", "small", "text2", wrap=True)
        self._head = QWidget()
        head = QHBoxLayout(self._head)
        head.setContentsMargins(0, 0, 0, 0)
        head.setSpacing(theme.px(12))
        head.addWidget(self._share)
        head.addWidget(self._what, 1)
        self.tokens = TokenView(tr("Tokens"))
        self.tokens.token_chosen.connect(self._tell_token)
        self._empty = EmptyState("database", "", "")
        self._inner = QStackedWidget()
        self._inner.addWidget(self._empty)
        self._inner.addWidget(self.tokens)
        self.token = PlainLabel("", "small", "text2", elide=True)
        self._line = Divider()
        self.add(self._bare)
        self.add(self._head)
        self.add(self._line)
        self.add(self._inner, 1)
        self.add(Divider())
        self.add(self.token)

    def show_view(self, view: DatasetView) -> None:
        """Show the row that is wanted, as far as it is known."""
        self._offer_bases(view)
        self._offer_templates(view)
        shown = view.shown
        self._shown = shown or Shown(-1)
        is_there = shown is not None and bool(shown.tokens)
        self._inner.setCurrentWidget(self.tokens if is_there else self._empty)
        self._head.setVisible(is_there)
        self._line.setVisible(is_there)
        if shown is not None and is_there:
            self._show_tokens(shown)
            return
        self._what.setText("")
        self.token.setText(tr("Trained tokens are bold, tinted and underlined."))
        if view.wanted_row < 0:
            self._empty.set_text(tr("No row chosen"), tr("Choose a row to see each of its tokens."))
        elif shown is None:
            self._empty.set_text(
                tr("One moment"),
                tr("The base's tokenizer is asked. For a base that is new here that takes some seconds."),
            )
        else:
            self._empty.set_text(tr("This row cannot be shown"), f"{shown.error} {shown.hint}".strip())

    def _offer_bases(self, view: DatasetView) -> None:
        bases = [(base.id, base.id) for base in self._state.bases]
        chosen = view.base or self._state.recipe.base.id
        if [self.base.itemData(place) for place in range(self.base.count())] != [base for base, _ in bases]:
            self.base.set_options(bases, chosen)
        elif self.base.value() != chosen:
            self.base.set_value(chosen)
        self.base.setEnabled(bool(bases))

    def _offer_templates(self, view: DatasetView) -> None:
        recipe = self._state.recipe
        self._bare.setVisible(self.base.value() in self._state.bare_bases)
        chosen = view.template or recipe.data.chat_template
        if self.template.value() != chosen:
            self.template.set_value(chosen)

    def _show_tokens(self, shown: Shown) -> None:
        limit = self._state.recipe.data.max_tokens
        # Nothing stands before the first token that it could be foretold from: it is never learnt.
        tokens = [Token(one["id"], one["text"], one["trained"] and place > 0) for place, one in enumerate(shown.tokens)]
        kept = sum(token.is_trained for token in tokens[:limit])
        num_cut = max(0, len(tokens) - limit)
        self._share.setText(percent(kept / min(len(tokens), limit)))
        words = tr("of {0} tokens are trained in row {1}.").format(
            format_int(min(len(tokens), limit)), format_int(shown.row + 1)
        )
        if num_cut:
            words += " " + tr("{0} more are cut, of which {1} would have been trained.").format(
                format_int(num_cut), format_int(shown.num_supervised - kept)
            )
        if len(tokens) > MOST_TOKENS:
            words += " " + tr("The first {0} are shown.").format(format_int(MOST_TOKENS))
        self._what.setText(words)
        before = self.tokens.current()
        self.tokens.set_tokens(tokens, limit, tr("Cut here, at {0} tokens").format(format_int(limit)))
        if before < 0 or self.tokens.current() < 0:
            self.token.setText(tr("Click a token, or walk with the arrow keys, to see what it is."))

    def _tell_token(self, place: int) -> None:
        token = self.tokens.tokens()[place]
        limit = self._state.recipe.data.max_tokens
        what = tr("cut") if place >= limit else tr("trained") if token.is_trained else tr("read, not trained")
        text = "\u201c" + visible_text(token.text)[:60] + "\u201d"
        words = tr("Token {0}: id {1}, {2}, {3}")
        self.token.setText(words.format(format_int(place + 1), token.id, text, what))
