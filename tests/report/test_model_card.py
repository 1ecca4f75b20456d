"""The model card: what it says, and that its metadata can be read."""

import yaml

from amc.pipeline.model_card import model_card

PREPROCESSING = {"height": 32, "width": 32, "channels": "RGB", "class_names": ["cat", "dog"]}


def front_of(card):
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def test_the_card_bears_figures_and_metadata(summary):
    card = model_card(summary, PREPROCESSING)
    front = front_of(card)
    assert front["pipeline_tag"] == "image-classification"
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.94
    assert "| FLOPs | 1,000 | 480 (48.0%) |" in card
    assert "| 95.00 | 94.00 |" in card
    assert "RGB images of 32 x 32 pixels" in card


def test_a_network_that_is_not_fine_tuned_has_the_pruned_figure(summary):
    summary["accuracy"]["finetuned"] = None
    assert front_of(model_card(summary))["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.9


def test_a_measure_of_ones_own_is_no_accuracy(summary):
    summary["metric"] = "miou, a measure of your own"
    assert "model-index" not in front_of(model_card(summary))


def test_names_cannot_break_out_of_the_metadata_or_a_table(summary):
    summary["model"] = "x: [1, 2]\n---\n| `evil` |"
    front = front_of(model_card(summary))
    assert front["base_model_name"] == "x: [1, 2] --- / 'evil' /"


def test_the_card_names_the_data(summary):
    summary["data"] = {"name": "cifar10", "train": 45000, "calibration": 1000, "search": 5000, "test": 10000}
    card = model_card(summary)
    assert front_of(card)["model-index"][0]["results"][0]["dataset"] == {
        "name": "cifar10",
        "type": "cifar10",
        "split": "test",
    }
    assert "pruned on `cifar10`: 45,000 examples to train on, 5,000 to choose by, 10,000 to test" in card


def test_data_without_a_name_are_counted(summary):
    summary["data"] = {"name": "", "train": 40, "calibration": 40, "search": 10, "test": 20}
    card = model_card(summary)
    assert front_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == "the test split of the run"
    assert "pruned on data of its maker's own: 40 examples" in card
