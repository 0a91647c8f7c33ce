"""The reader of saved workflows: which value becomes which input, and what it refuses."""

import pytest
from harness.saved_workflow import NotUnderstood, to_prompt

OFFERED = {
    "Loader": {"input": {"required": {"file": [["a", "b"], {}]}}},
    "Upload": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    "Sampler": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "name": ["COMBO", {"options": ["euler", "heun"]}],
                "text": ["STRING", {"forceInput": True}],
            },
            "optional": {"strength": ["FLOAT", {"default": 0.5}], "anything": ["*"]},
        }
    },
}


def node(number, kind, values, **more):
    return {"id": number, "type": kind, "widgets_values": values, **more}


def test_values_go_to_widgets_in_order_and_links_to_their_inputs():
    model = {"name": "model", "link": 5}
    workflow = {
        "nodes": [
            node(1, "MarkdownNote", ["read me"]),
            node(2, "Loader", ["b"]),
            node(3, "Sampler", [7, "fixed", "heun", 0.25], inputs=[model, {"name": "anything", "link": None}]),
            node(4, "Upload", ["a.png", "image"], mode=0),
        ],
        "links": [[5, 2, 1, 3, 0, "MODEL"]],
    }
    assert to_prompt(workflow, OFFERED) == {
        "2": {"class_type": "Loader", "inputs": {"file": "b"}},
        "3": {"class_type": "Sampler", "inputs": {"seed": 7, "name": "heun", "strength": 0.25, "model": ["2", 1]}},
        "4": {"class_type": "Upload", "inputs": {"image": "a.png"}},
    }


def test_a_linked_widget_keeps_its_place_and_a_missing_value_is_the_default():
    name = {"name": "name", "link": 1, "widget": {"name": "name"}}
    workflow = {
        "nodes": [node(2, "Loader", []), node(3, "Sampler", [7, "fixed", "heun"], inputs=[name])],
        "links": [[1, 2, 0, 3, 0, "COMBO"]],
    }
    prompt = to_prompt(workflow, OFFERED)
    assert prompt["2"]["inputs"] == {"file": "a"}
    assert prompt["3"]["inputs"] == {"seed": 7, "name": ["2", 0], "strength": 0.5}


@pytest.mark.parametrize(
    ("broken", "says"),
    (
        (node(1, "Reroute", []), "offers no Reroute"),
        (node(1, "Loader", ["a"], mode=4), "muted or bypassed"),
        (node(1, "Loader", ["a", 3]), r"no widget takes \[3\]"),
    ),
)
def test_what_it_has_no_rule_for_is_an_error(broken, says):
    with pytest.raises(NotUnderstood, match=says):
        to_prompt({"nodes": [broken], "links": []}, OFFERED)
