"""A served LLM answers as the one on this machine does, in order, through trouble, and is known by its name.

The server here is a small one, and real: it applies the chat template and generates with tiny weights.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolkit.assets.locate import locate
from toolkit.config import Config, compose_config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.tasks import load_tasks
from toolkit.data.tokenization import ChatTokenizer, chat, written
from toolkit.errors import AssetError, ConfigError, ServerError
from toolkit.stages import decode, imitate, train
from toolkit.stages.engines import ServedLLM, check_engine, served_llm
from toolkit.stages.hypotheses import read_rows
from toolkit.stages.paths import answers_folder
from toolkit.stages.server import Server
from toolkit.testing.tiny import tiny_llm
from toolkit.types import TextSegment, TokenPiece

ROOT = Path(__file__).resolve().parents[2]
ConfigOf = Callable[..., Config]

SAID = ["My aunt speaks English.", "The fox is quick", "she sells shells", "What is it?", "large", "I am. You are."]
QUESTIONS = [
    *(Question(prompt, text) for prompt in ("Say: {speech}", "{speech} Answer:", "Reply: {speech}") for text in SAID),
    Question("Join {speech2} and {speech}", SAID[0], others=((SAID[1], 0.0),)),
]
LENGTH = 12


class Handler(BaseHTTPRequestHandler):
    """Chat completions, as OpenAI's protocol has them."""

    server: "TinyServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "tiny"}]} if self.path == "/v1/models" else {"error": "nothing here"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append(body)
            server.authorised.append(self.headers["Authorization"])
            trouble = server.troubles.pop(0) if server.troubles else 0
            patience = server.patience.pop() if server.patience else 0.0
        time.sleep(patience)
        if trouble == -1:
            self.close_connection = True  # hangs up without a word
        elif trouble:
            self.reply(trouble, {"error": {"message": "one moment please"}}, {"Retry-After": "0"})
        elif self.path != "/v1/chat/completions":
            self.reply(404, {"detail": "Not Found"})
        elif body["model"] != "tiny":
            self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        else:
            self.reply(200, server.complete(body))

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


class TinyServer(ThreadingHTTPServer):
    """Serves one LLM as `tiny`; tests may give it trouble, and look at what it was asked."""

    request_queue_size = 128  # the default of 5 resets a connection now and then when many come at once

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.authorised: list[str | None] = []
        self.troubles: list[int] = []
        self.patience: list[float] = []
        self.samples = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Generate with the model, greedily unless this server is one of those that sample whatever they are told."""
        prompt = self.tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        how = {"do_sample": True, "temperature": 9.0} if self.samples or body["temperature"] else {"do_sample": False}
        with self.lock, torch.no_grad():
            row = self.model.generate(**prompt, max_new_tokens=body["max_tokens"], **how)[0].tolist()
        said = row[prompt["input_ids"].shape[1] :]
        reason = "stop" if said[-1] == self.tokenizer.eos_token_id else "length"
        message = {"role": "assistant", "content": self.tokenizer.decode(said, skip_special_tokens=True)}
        return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LLM of its own, that ends some of its answers by itself."""
    folder = tiny_llm(tmp_path_factory.mktemp("models") / "speaker", width=48)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[1] = 1.1 * weight[161]  # the end of a turn is likelier than the token that it says most
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def running(speaker: Path) -> Iterator[TinyServer]:
    server = TinyServer(speaker)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(running: TinyServer) -> TinyServer:
    """The running server, without the traces of other tests."""
    running.asked, running.authorised, running.troubles, running.patience = [], [], [], []
    running.samples = False
    return running


def served(url: str, *, model: str = "tiny", system: str | None = None, retries: int = 2, **request: Any) -> ServedLLM:
    return ServedLLM(Server(url, 60.0, retries, pause=0.01), model, system, request, LENGTH, 4)


def local(folder: Path, *more: str) -> imitate.TextLLM:
    return imitate.text_llm(
        compose_config(
            ["exp_dir=x", "encoder.model=x", f"decoder.model={folder}", f"imitate.max_new_tokens={LENGTH}", *more]
        )
    )


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_served_llm_answers_as_the_same_one_on_this_machine(
    system: str | None, server: TinyServer, speaker: Path
) -> None:
    answers = served(server.url, system=system).answer(QUESTIONS)
    assert answers == local(speaker, f"system={system or 'null'}").answer(QUESTIONS)
    assert {answer.complete for answer in answers} == {True, False}
    assert len(set(answers)) > len(QUESTIONS) // 2


def test_answers_come_in_the_order_of_the_questions_whoever_is_answered_first(server: TinyServer) -> None:
    llm = served(server.url)
    first, before = llm.answer(QUESTIONS), len(server.asked)
    server.patience = [0.02 * i for i in range(len(QUESTIONS))]  # who comes first waits longest
    assert llm.answer(QUESTIONS) == first
    assert len(server.asked) == before + len(QUESTIONS)


def test_what_is_sent_is_a_greedy_request_in_the_words_of_the_prompt(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    config = compose_config(
        [
            "exp_dir=x", "encoder.model=x", "decoder.model=x", "imitate.engine=openai", "imitate.served_model=tiny",
            f"server.url={server.url}/", "+imitate.request={top_p:1.0}", "system=Be brief.", "imitate.max_new_tokens=3",
        ]
    )  # fmt: skip
    served_llm(config).answer(QUESTIONS[-1:])
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Join {SAID[1]} and {SAID[0]}"},
    ]
    wanted = {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 3, "seed": 0, "top_p": 1.0}
    assert server.asked == [wanted] * len(server.asked)
    assert set(server.authorised) == {"Bearer secret"}
    monkeypatch.delenv("OPENAI_API_KEY")
    server.authorised.clear()
    served_llm(config).answer(QUESTIONS[:1])
    assert set(server.authorised) == {None}


@pytest.mark.parametrize("trouble", [503, 429, 500, -1])
def test_a_busy_server_is_asked_again(trouble: int, server: TinyServer) -> None:
    llm = served(server.url)
    answers = llm.answer(QUESTIONS[:4])
    server.asked.clear()
    server.troubles = [trouble, 0, trouble, trouble]
    assert llm.answer(QUESTIONS[:4]) == answers
    assert len(server.asked) == 4 + 3


def test_a_server_that_stays_busy_is_given_up_with_its_own_words(server: TinyServer) -> None:
    server.troubles = [503] * 3
    with pytest.raises(ServerError, match=r"status 503, .*one moment please.*asked 3 times"):
        served(server.url).answer(QUESTIONS[:1])
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("trouble", "path", "model", "message"),
    [
        (400, "", "tiny", r"status 400, .*one moment please.*served_model=tiny"),
        (401, "", "tiny", r"status 401, .*OPENAI_API_KEY"),
        (0, "", "large", r"model `large` does not exist.*It serves: tiny \(imitate.served_model=large\)"),
        (0, "/chat", "tiny", r"status 404, .*Not Found.*server.url ends in /v1"),
    ],
)
def test_a_refusal_is_told_and_not_repeated(
    trouble: int, path: str, model: str, message: str, server: TinyServer
) -> None:
    server.troubles = [trouble]
    with pytest.raises(ServerError, match=message):
        served(server.url + path, model=model).answer(QUESTIONS)
    assert len(server.asked) == 1


def test_where_nobody_listens_the_message_says_what_to_start_and_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("toolkit.stages.server.time.sleep", lambda seconds: pytest.fail(f"waits for {seconds} s"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=rf"nobody answers at http://127.0.0.1:{port}/v1 .*server\.url"):
        ServedLLM(Server(f"http://127.0.0.1:{port}/v1", 60.0, 5), "tiny", None, {}, LENGTH, 4).answer(QUESTIONS)


def test_who_answers_something_else_is_no_such_server(server: TinyServer) -> None:
    class Page(Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with pytest.raises(ServerError, match=r"no JSON but '<html>'"):
            served(f"http://127.0.0.1:{page.server_address[1]}/v1").answer(QUESTIONS)
        page.shutdown()


def test_a_server_that_samples_is_refused(server: TinyServer) -> None:
    server.samples = True
    with pytest.raises(ServerError, match=r"differently each time .* it samples"):
        served(server.url).answer(QUESTIONS)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"message": {"content": None, "reasoning_content": "Hm"}, "finish_reason": "length"}, "enable_thinking:false"),
        ({"message": {"content": "a"}, "finish_reason": "abort"}, "by 'abort'"),
        ({"text": "a"}, "no chat completion"),
    ],
)
def test_an_answer_that_is_none_is_refused(choice: Any, message: str) -> None:
    with pytest.raises(ServerError, match=message):
        served("http://localhost/v1")._answer({"choices": [choice]})


def test_an_interrupted_imitation_goes_on_byte_for_byte(server: TinyServer, tmp_path: Path) -> None:
    llm = served(server.url, retries=0)
    whole, cut = AnswerStore(tmp_path / "whole", LENGTH), AnswerStore(tmp_path / "cut", LENGTH)
    list(whole.fill(QUESTIONS, llm.answer, 5))
    server.troubles = [0] * 12 + [503]
    with pytest.raises(ServerError):
        list(cut.fill(QUESTIONS, llm.answer, 5))
    server.asked.clear()
    again = AnswerStore(tmp_path / "cut", LENGTH)
    kept = len(QUESTIONS) - len(again.missing(QUESTIONS))
    assert kept == 10
    list(again.fill(QUESTIONS, llm.answer, 5))
    assert len(server.asked) == len(QUESTIONS) - kept
    assert cut.path.read_bytes() == whole.path.read_bytes()


def test_a_served_llm_is_known_by_its_name_and_options_and_not_by_its_address() -> None:
    llm = served("http://localhost:1/v1", system="a", top_p=1.0)
    elsewhere = ServedLLM(Server("https://example.org/v1", 5.0, 9, "key"), "tiny", "a", {"top_p": 1.0}, 99, 99)
    assert llm.key == elsewhere.key
    others = [
        replace(llm, model="other"), replace(llm, system=None), replace(llm, request={}),
        replace(llm, request={"top_p": 0.5}),
    ]  # fmt: skip
    assert len({llm.key, *(other.key for other in others)}) == 5


def prompts(folder: str, tasks: Path) -> Iterator[tuple[Question, str, str, list[int], list[int]]]:
    """Yield each wording with a sentence: the prompt of a server and that of the local engine, as text and tokens."""
    tokenizer, theirs = ChatTokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for task in load_tasks(tasks).values():
        for wording in (*task.training, *task.testing):
            question = Question(wording, SAID[0])
            messages = chat(None, written(wording, [question.text]))
            whole = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            row = tokenizer.question(wording, (TextSegment(question.text),))
            ours = [token for piece in row if isinstance(piece, TokenPiece) for token in piece.token_ids]
            cut = theirs(whole, add_special_tokens=False)["input_ids"]
            yield question, whole, theirs.decode(ours), cut, ours


def check_prompts(folder: str) -> None:
    seen = 0
    for question, server_text, local_text, server_tokens, local_tokens in prompts(folder, ROOT / "recipes/tasks"):
        assert server_text == local_text
        if '"{speech}"' not in question.prompt:  # of which the module says that its tokens may be others
            assert server_tokens == local_tokens, question.prompt
            seen += 1
    assert seen > 20


def test_a_server_makes_the_very_prompt_of_the_local_engine(tiny_llm: Path) -> None:
    check_prompts(str(tiny_llm))


def test_a_server_makes_the_very_prompt_of_the_packaged_llm() -> None:
    try:
        check_prompts(locate("asset:smollm2-135m-instruct"))
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture
def remote(config_of: ConfigOf, server: TinyServer) -> Callable[..., Config]:
    """Return a function that configures an experiment whose answers a server gives."""

    def make(exp: Path, *more: str) -> Config:
        where = [f"server.url={server.url}", "server.retries=0"]
        return config_of(exp, "imitate.engine=openai", "imitate.served_model=tiny", *where, *more)

    return make


def test_answers_of_a_server_are_trained_on_and_scored_against_when_it_is_gone(
    remote: Callable[..., Config], server: TinyServer, tmp_path: Path
) -> None:
    config = remote(tmp_path, "decode.systems=[speech,deaf,cascade]", "decode.batch_size=8", "train.steps=2")
    imitate.run(config)
    asked = len(server.asked)
    imitate.run(config)
    assert len(server.asked) == asked  # nothing is asked twice
    gone = replace(config, server=replace(config.server, url="http://127.0.0.1:9/v1"))
    train.run(gone)
    assert len(server.asked) == asked
    folder = answers_folder(config, "test", served_llm(config).key)
    theirs = {(row["prompt"], row["text"]): row["answer"] for row in read_lines(folder / "store.jsonl")}
    with pytest.raises(ServerError, match="nobody answers"):
        decode.run(gone)  # all but the cascade needs nobody
    decode.run(config)
    for row in read_rows(tmp_path / "decode/test/text.jsonl"):
        if row.task != "transcribe":
            assert row.reference == row.hypothesis == theirs[row.prompt, row.transcript]
    heard = {message["content"] for body in server.asked[asked:] for message in body["messages"]}
    rows = read_rows(tmp_path / "decode/test/cascade.jsonl")
    assert heard
    assert len(heard) <= len({(row.prompt, row.heard) for row in rows})
    now = len(server.asked)
    decode.run(gone)
    assert len(server.asked) == now


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_another_engine_is_another_table(remote: Callable[..., Config], config_of: ConfigOf, tmp_path: Path) -> None:
    config = remote(tmp_path, "decode.systems=[speech,deaf]", "train.steps=1")
    imitate.run(config)
    train.run(config)
    decode.run(config)
    speech = (tmp_path / "decode/test").glob("answers-*/store.jsonl")
    before = {path: path.read_bytes() for path in speech}
    decode.run(config_of(tmp_path, "decode.systems=[speech]"))
    assert not (tmp_path / "decode/test/deaf.jsonl").exists()  # its references were those of the other engine
    assert {path: path.read_bytes() for path in before} == before  # what was said to speech is said by the same model


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("imitate.engine=remote", "one of local, openai, not 'remote'"),
        ("imitate.engine=openai", "needs imitate.served_model"),
        ("imitate.served_model=tiny", "are for imitate.engine=openai"),
        (
            "imitate.engine=openai imitate.served_model=t +imitate.request={temperature:1,n:2}",
            "not hold n, temperature",
        ),
    ],
)
def test_an_engine_that_cannot_be_is_refused_before_anything_is_loaded(overrides: str, message: str) -> None:
    config = compose_config(["recipes=mtbi", "exp_dir=x", "encoder.model=x", "decoder.model=x", *overrides.split()])
    for stage in (check_engine, imitate.run, train.run, decode.run):
        with pytest.raises(ConfigError, match=message):
            stage(config)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost/v1", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"such as http://localhost:8000/v1"):
        Server(url, 1.0, 0)


MISSING = [package for package in ("fastapi", "uvicorn", "openai") if find_spec(package) is None]


@pytest.fixture(scope="module")
def transformers_serve(speaker: Path) -> Iterator[str]:
    """Run `transformers serve` on the speaker; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", speaker.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = speaker.parent / "serve.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=speaker.parent, env=environment, stdout=file, stderr=file)
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(bool(MISSING), reason=f"transformers[serving] is not installed: no {', '.join(MISSING)}")
def test_transformers_serve_answers_as_the_same_llm_on_this_machine(transformers_serve: str, speaker: Path) -> None:
    answers = served(transformers_serve, model=speaker.name).answer(QUESTIONS)
    ours = local(speaker).answer(QUESTIONS)
    assert [answer.text for answer in answers] == [answer.text for answer in ours]
    # It calls an answer cut that ends with its very last token; in doubt no end of turn is trained.
    assert all(our.complete or not their.complete for our, their in zip(ours, answers, strict=True))
    assert {answer.complete for answer in answers} == {True, False}
    with pytest.raises(ServerError, match=r"imitate.served_model=other"):
        served(transformers_serve, model="other").answer(QUESTIONS[:1])


def test_an_answer_has_no_blanks_around_it() -> None:
    choice = {"message": {"content": " a b\n"}, "finish_reason": "stop"}
    assert served("http://localhost/v1")._answer({"choices": [choice]}) == Answer("a b", True)
