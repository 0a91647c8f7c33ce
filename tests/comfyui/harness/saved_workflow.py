"""A workflow as the front-end saves it, turned into the prompt that the front-end would queue.

Only what our examples use: no subgraph, no reroute, no node that is muted or bypassed. Anything
else is an error, so that nothing runs but what the file says.
"""

NOTES = ("Note", "MarkdownNote")
RUNS_ALWAYS = 0
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SEEDS = ("seed", "noise_seed")


class NotUnderstood(ValueError):
    """Something in the workflow that this reader has no rule for."""


def to_prompt(workflow: dict, offered: dict) -> dict:
    """`offered` is what the server answers to /object_info."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in NOTES:
            continue
        if kind not in offered:
            raise NotUnderstood(f"the server offers no {kind}")
        if node.get("mode", RUNS_ALWAYS) != RUNS_ALWAYS:
            raise NotUnderstood(f"node {node['id']} is muted or bypassed")
        linked = {
            one["name"]: list(links[one["link"]]) for one in node.get("inputs", ()) if one.get("link") is not None
        }
        # The place of a widget stays in the list of values, also where a link has taken it over.
        inputs = {**widget_values(node, offered[kind]), **linked}
        prompt[str(node["id"])] = {"class_type": kind, "inputs": inputs}
    return prompt


def widget_values(node: dict, definition: dict) -> dict:
    """The saved values by the names of the inputs: they stand in the order of the inputs."""
    left = list(node.get("widgets_values") or ())
    found = {}
    for name, kind, options in inputs_of(definition):
        if not is_widget(kind, options):
            continue
        # A workflow that was saved before the node had this widget: the front-end takes the default.
        found[name] = left.pop(0) if left else default_of(name, kind, options)
        if left and has_companion(name, kind, options):
            left.pop(0)
    if left:
        raise NotUnderstood(f"node {node['id']} ({node['type']}): no widget takes {left}")
    return found


def inputs_of(definition: dict) -> list[tuple[str, object, dict]]:
    """Name, type and options, in the front-end's order."""
    given = definition["input"]
    rows = [*given.get("required", {}).items(), *given.get("optional", {}).items()]
    return [(name, row[0], row[1] if len(row) > 1 else {}) for name, row in rows]


def is_widget(kind: object, options: dict) -> bool:
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


def has_companion(name: str, kind: object, options: dict) -> bool:
    """Whether the front-end shows a second widget after it: what a seed does next, or an upload button."""
    seed = kind == "INT" and name in SEEDS
    return bool(seed or options.get("control_after_generate") or options.get("image_upload"))


def default_of(name: str, kind: object, options: dict):
    choices = kind if isinstance(kind, list) else options.get("options")
    if "default" not in options and not choices:
        raise NotUnderstood(f"there is no value for {name}")
    return options["default"] if "default" in options else choices[0]
