"""Numbers that no stage can run with are refused by their key, all at once."""

from dataclasses import asdict

import pytest

from toolkit.config import Config, compose_config
from toolkit.errors import ConfigError
from toolkit.limits import AT_LEAST, MORE_THAN_0, SHARES


def test_every_limit_is_of_a_key_that_there_is() -> None:
    sections = asdict(Config())
    for key in (*AT_LEAST, *MORE_THAN_0, *SHARES):
        section, name = key.split(".")
        assert isinstance(sections[section][name], int | float) or key == "train.micro_batch_tokens"  # null by itself


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=-1", "train.steps is at least 0, not -1"),
        ("train.micro_batch_size=-1", "train.micro_batch_size is at least 0, not -1"),
        ("train.learning_rate=0", "train.learning_rate is more than 0, not 0"),
        ("train.learning_rate=nan", "train.learning_rate is more than 0, not nan"),
        ("train.warmup=5", "train.warmup is a share, 0 to 1, not 5"),
        ("encode.batch_size=0", "encode.batch_size is at least 1, not 0"),
        ("train.steps=-1 train.validate_every=0", "train.steps is at least 0, not -1; train.validate_every is at"),
    ],
)
def test_a_number_that_no_stage_can_run_with_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config(override.split(" "))
