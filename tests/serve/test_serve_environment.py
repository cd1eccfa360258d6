"""`olivepress serve` without an argument, as a container in Azure starts it: everything stands in its environment."""

import shutil

from olivepress.azure.workspace import ModelStore
from olivepress.tools.deploy import specification


def test_what_a_deployment_in_azure_sets_and_mounts_is_served(release, serving, answers, tmp_path, monkeypatch):
    monkeypatch.setattr(specification, "MOUNT", str(tmp_path / "mount"))
    model = specification.Model(ModelStore(), "ft-for-travel", "3")
    asked = specification.deployment(
        "blue", "press", model, image="i", instance_type="Standard_DS3_v2", instances=1, slots=4
    )
    # Azure mounts the folder that was registered below the model's name and version
    shutil.copytree(release, tmp_path / "mount/ft-for-travel/3/ft-for-travel")
    for name, value in asked["environment_variables"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OLIVEPRESS_SERVE_GRAPH", "portable")
    with serving() as server:
        assert " at http://0.0.0.0:" in server.said
        for route in ("liveness_route", "readiness_route"):
            path = asked["environment"]["inference_config"][route]["path"]
            # what asks there is no browser, and calls the container by another name
            assert server.http().get(path, headers={"Host": "press.inference.ml.azure.com"}).status_code == 200
        known = next(answer for answer in answers if answer["adapter"] == "travel")
        done = server.client().chat.completions.create(
            model="ft-for-travel:travel", messages=[{"role": "user", "content": known["prompt"]}], max_tokens=48
        )
        assert done.choices[0].message.content.strip() == known["text"].strip()
