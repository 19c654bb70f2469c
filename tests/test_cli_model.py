"""The stand-in model: always the same to the same question, and counted."""

from __future__ import annotations

from time import perf_counter

import pytest

from tiered_cache.cli._model import StandInModel


@pytest.fixture
def model() -> StandInModel:
    return StandInModel(speed=1000)


async def test_equal_questions_have_equal_answers_and_each_is_counted(model: StandInModel) -> None:
    answers = [model.invoke("a"), await model.ainvoke("a"), await StandInModel(speed=1e6).ainvoke("a")]
    assert len({answer.text for answer in answers}) == 1
    assert (await model.ainvoke("b")).text != answers[0].text
    assert model.calls == 3
    assert answers[0].usage_metadata is not None
    assert answers[0].usage_metadata["output_tokens"] == len(answers[0].text.split())


async def test_longer_answers_take_longer_within_the_range_of_a_service(model: StandInModel) -> None:
    fastest, slowest = 0.15 / 1000, 0.6 / 1000
    for n in range(20):
        sentences = model._compose([])[:1] * (1 + n % 6)
        assert fastest <= model._seconds(sentences) <= slowest * 1.001
    assert model._seconds(["x"]) < model._seconds(["x"] * 6)
    started = perf_counter()
    StandInModel(speed=1.0).invoke("a")
    assert perf_counter() - started >= 0.15


def test_speed_is_no_part_of_what_is_cached() -> None:
    assert StandInModel(speed=1)._get_llm_string() == StandInModel(speed=9)._get_llm_string()
