"""What a web user may ask for where the app has no hook of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from chunkspool.admission.asked import AskedGeneration
from chunkspool.admission.messages import check_messages
from chunkspool.admission.params import allowed_params, checked_params
from chunkspool.errors import Refused, shown
from chunkspool.settings import Settings


@dataclass(frozen=True, slots=True)
class SafeAdmission:
    """An `Admit`: a conversation without system messages, one of `models`, and params that only shape the answer.

    A hook of your own may call it first, and then change what it returns. `max_tokens` is the most that a user may ask
    for; without `models`, the user cannot choose. `beside`: whether on_active="allow" may be asked for.
    """

    models: frozenset[str] = frozenset()
    max_tokens: int = 4096
    beside: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return what the settings allow: the models of `web_models`, and the default one by its name."""
        named = (name.strip() for name in settings.web.web_models.split(","))
        models = frozenset(name for name in (*named, settings.provider.model) if name)
        return cls(models, settings.web.web_max_tokens)

    def __call__(self, request: object, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:  # noqa: ARG002 - a hook's signature
        """Return what `check` does."""
        return self.check(asked)

    def check(self, asked: AskedGeneration) -> AskedGeneration:
        """Return `asked`, without params that are null. Raises `Refused`, which says what is allowed."""
        if asked.model is not None and asked.model not in self.models:
            allowed = f"it may be {', '.join(sorted(self.models))}" if self.models else "leave it out"
            raise Refused(f"the model {shown(asked.model)} may not be chosen; {allowed}")
        if asked.on_active == "allow" and not self.beside:
            raise Refused('on_active may not be "allow"; it may be "reject", "replace" or "queue"')
        check_messages(asked.messages, are_shown=asked.is_of_usechat)
        return replace(asked, params=checked_params(asked.params, allowed_params(self.max_tokens)))
