from dataclasses import fields
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from toolkit.errors import ConfigError, PluginError, UnknownNameError
from toolkit.registry import Registry, config_class


class Toy:
    """What all toys are."""


class Ball(Toy):
    def __init__(self, weight: float, *, colour: str = "red", size: int = 3) -> None:
        self.weight, self.colour, self.size = weight, colour, size


class Blocks(Toy):
    def __init__(self, *, shapes: list[str] = ["cube"], counts: dict[str, int] = {"cube": 4}) -> None:  # noqa: B006
        self.shapes, self.counts = shapes, counts


class Robot(Toy):
    def __init__(self, *, battery: str, speed: float = 1.0) -> None:
        self.battery, self.speed = battery, speed


class Stone:
    """Not a toy."""


@pytest.fixture
def toys() -> Registry[Toy]:
    registry = Registry("toy", Toy)
    for name, cls in {"ball": Ball, "blocks": Blocks, "robot": Robot}.items():
        registry.register(name)(cls)
    return registry


def build(toys: Registry[Toy], *wiring: Any, **options: Any) -> Any:
    return toys.build(options, *wiring)


def test_names_come_in_order(toys: Registry[Toy]) -> None:
    assert list(toys) == ["ball", "blocks", "robot"]


def test_a_name_gives_its_class(toys: Registry[Toy]) -> None:
    assert toys["ball"] is Ball


def test_the_decorator_returns_the_class_as_it_was(toys: Registry[Toy]) -> None:
    assert toys.register("another ball")(Ball) is Ball


def test_a_class_of_another_kind_is_refused(toys: Registry[Toy]) -> None:
    with pytest.raises(PluginError, match=r"toy 'stone': .*Stone does not extend Toy"):
        toys.register("stone")(Stone)


def test_two_claimants_of_a_name_are_both_named(toys: Registry[Toy]) -> None:
    with pytest.raises(PluginError, match=r"two toys claim the name 'ball': .*\.Ball and .*\.Robot"):
        toys.register("ball")(Robot)
    assert toys["ball"] is Ball


def test_a_slip_is_answered_with_the_nearest_name_and_all_of_them(toys: Registry[Toy]) -> None:
    with pytest.raises(UnknownNameError, match=r"toy 'bal'\. Did you mean 'ball'\? There are: ball, blocks, robot\."):
        toys["bal"]


def test_a_name_like_no_other_gets_no_suggestion(toys: Registry[Toy]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown toy 'xyz'\. There are: ball"):
        toys["xyz"]


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(UnknownNameError, match=r"There are: \(none\)"):
        Registry("toy", Toy)["ball"]


def test_building_gives_wiring_by_position_and_options_by_keyword(toys: Registry[Toy]) -> None:
    ball = build(toys, 0.5, name="ball", colour="blue")
    assert (ball.weight, ball.colour, ball.size) == (0.5, "blue", 3)


def test_an_unknown_key_is_answered_with_the_nearest(toys: Registry[Toy]) -> None:
    with pytest.raises(ConfigError, match=r"unknown key of toy 'ball' 'color'\. Did you mean 'colour'"):
        build(toys, 0.5, name="ball", color="blue")


def test_a_key_of_another_part_says_whose_it_is(toys: Registry[Toy]) -> None:
    with pytest.raises(ConfigError, match=r"unknown key of toy 'robot' 'colour'.* colour is an option of toy=ball\.$"):
        toys.check({"name": "robot", "battery": "AA", "colour": "blue"})


def test_wiring_cannot_be_configured(toys: Registry[Toy]) -> None:
    with pytest.raises(ConfigError, match="unknown key of toy 'ball' 'weight'"):
        build(toys, name="ball", weight=0.5)


@pytest.mark.parametrize("given", [{}, {"battery": MISSING}])
def test_a_key_without_default_must_be_given(toys: Registry[Toy], given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"toy\.battery has no default: toy 'robot' needs it"):
        build(toys, name="robot", **given)


def test_the_schema_is_the_name_and_the_keyword_only_arguments() -> None:
    assert [(field.name, field.type) for field in fields(config_class("ball", Ball))] == [
        ("name", str),
        ("colour", str),
        ("size", int),
    ]


def test_a_key_without_default_is_missing_in_the_schema() -> None:
    assert OmegaConf.is_missing(OmegaConf.structured(config_class("robot", Robot)), "battery")


def test_mutable_defaults_are_not_shared() -> None:
    schema = config_class("blocks", Blocks)
    first, second = schema(), schema()
    first.shapes.append("ball")
    first.counts["ball"] = 1
    assert (second.shapes, second.counts) == (["cube"], {"cube": 4})


def test_registering_offers_the_part_to_hydra(toys: Registry[Toy]) -> None:
    assert set(ConfigStore.instance().list("toy")) >= {"ball.yaml", "blocks.yaml", "robot.yaml"}
    node = ConfigStore.instance().load("toy/ball.yaml").node
    assert OmegaConf.to_container(node) == {"name": "ball", "colour": "red", "size": 3}


def test_the_schema_refuses_a_value_of_another_type() -> None:
    config = OmegaConf.structured(config_class("ball", Ball))
    with pytest.raises(Exception, match="could not be converted to Integer"):
        config.size = "large"
