"""Who answers text: the decoder on this machine, or an LLM that a server runs (vLLM, SGLang, llama.cpp, ...).

An engine answers batches of questions, and has a key under which its answers are kept. Whoever answered in the imitate
stage answers in the cascade too, and its answers are the references of the scores: it is one LLM in all of them.

A served LLM is known by its name, the system prompt and what else every request says; never by the address, so that
a server may move, or be gone once its answers are there. Whoever serves other weights gives them another name.

The messages sent are those that the local chat template is given, and the server applies the template. It cuts the
whole prompt into tokens, where the local engine cuts the utterance apart from what is around it; so behind an utterance
that no space ends (`"{speech}"`) tokens may differ, and special tokens spelt out in a transcript are no characters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from toolkit.config import Config
from toolkit.data.answers import Answer, Question
from toolkit.data.fingerprint import fingerprint
from toolkit.data.tokenization import chat, written
from toolkit.errors import ConfigError, ServerError
from toolkit.stages.server import Server

ENGINES = ("local", "openai")
_OURS = ("model", "messages", "temperature", "max_tokens", "seed", "n", "stream")
"""fields of a request that `imitate.request` may not say otherwise"""
_WHOLE, _CUT = ("stop",), ("length", "content_filter")


class Engine(Protocol):
    """Answers questions in text."""

    @property
    def key(self) -> str:
        """What decides the answers, in a word: their folder is called so."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens after which an answer is cut."""

    def answer(self, questions: Seq[Question]) -> list[Answer]:
        """Answer a batch, in its order."""


@dataclass
class ServedLLM:
    """An LLM behind `/v1/chat/completions`, asked greedily, several questions at a time."""

    server: Server
    model: str
    """its name on the server"""
    system: str | None
    """system prompt; None leaves it to the model's template"""
    request: Mapping[str, Any]
    """what else every request says"""
    max_new_tokens: int
    concurrency: int
    """requests under way at once"""
    _greedy: bool = field(default=False, init=False, repr=False)

    @property
    def key(self) -> str:
        """Return the digest of the model's name, the system prompt and the options of the request."""
        return fingerprint({"served": self.model, "system": self.system, "request": dict(self.request)})

    def answer(self, questions: Seq[Question]) -> list[Answer]:
        """Answer a batch of questions, in their order.

        Raises:
            ServerError: the server is not there, refuses, or does not answer greedily.
        """
        if questions and not self._greedy:
            self._check_greedy(questions[0])
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._ask, questions))

    def _check_greedy(self, question: Question) -> None:
        """Ask one question again: sampled answers would be other ones in every run, and none could be a reference."""
        self._ask(question)  # the server may load the model now, and keep the prompt: the next two are alike
        once, again = self._ask(question), self._ask(question)
        if once != again:
            raise ServerError(
                f"{self.server.url} answers one question differently each time ({once.text!r}, {again.text!r}), though "
                "asked for temperature 0: it samples. Start it without sampling options of its own"
            )
        self._greedy = True

    def _ask(self, question: Question) -> Answer:
        text = written(question.prompt, [text for text, _ in question.said])
        body = {
            "model": self.model, "messages": chat(self.system, text),
            "temperature": 0, "max_tokens": self.max_new_tokens, "seed": 0, **self.request,
        }  # fmt: skip
        try:
            reply = self.server.ask("/chat/completions", body)
        except ServerError as error:
            served = self.server.models()
            others = f". It serves: {', '.join(served)}" if served and self.model not in served else ""
            raise ServerError(f"{error}{others} (imitate.served_model={self.model})") from error
        return self._answer(reply)

    def _answer(self, reply: Any) -> Answer:
        try:
            choice = reply["choices"][0]
            message, reason = choice["message"], choice["finish_reason"]
            text = message.get("content") or ""
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ServerError(f"{self.server.url} answers no chat completion but {str(reply)[:300]}") from error
        if not text and (message.get("reasoning_content") or message.get("reasoning")):
            raise ServerError(
                f"{self.model} thinks until its {self.max_new_tokens} tokens are used up and answers nothing: switch "
                "that off, for many models by +imitate.request={chat_template_kwargs:{enable_thinking:false}}"
            )
        if reason not in (*_WHOLE, *_CUT):
            raise ServerError(f"{self.server.url} ended the answer {text!r} by '{reason}', neither whole nor cut")
        return Answer(text.strip(), reason in _WHOLE)


def check_engine(config: Config) -> None:
    """Look at what is said of the engine, before anything is loaded.

    Raises:
        ConfigError: there is no such engine, or the served model has no name or other options than it can have.
    """
    given = config.imitate
    if given.engine not in ENGINES:
        raise ConfigError(f"imitate.engine is one of {', '.join(ENGINES)}, not '{given.engine}'")
    if given.engine == "openai" and not given.served_model:
        raise ConfigError("imitate.engine=openai needs imitate.served_model, the name that the server knows the LLM by")
    if given.engine != "openai" and (given.served_model or given.request):
        raise ConfigError("imitate.served_model and imitate.request are for imitate.engine=openai")
    if ours := sorted(set(given.request) & set(_OURS)):
        raise ConfigError(f"imitate.request may not hold {', '.join(ours)}: answers are greedy, one a request")


def served_llm(config: Config) -> ServedLLM:
    """Return the LLM that the configured server runs; nobody is contacted before a question is asked."""
    where = config.server
    server = Server(where.url, where.timeout, where.retries, os.environ.get("OPENAI_API_KEY", ""))
    given = config.imitate
    return ServedLLM(server, given.served_model, config.system, given.request, given.max_new_tokens, where.concurrency)
