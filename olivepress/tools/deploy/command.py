"""olivepress azure deploy, traffic, undeploy: a registered release behind an Azure ML managed online endpoint."""

import sys
from typing import TYPE_CHECKING

import click

from olivepress.azure.workspace import connect, explained, workspace
from olivepress.core.errors import PressError
from olivepress.tools import azure_yaml
from olivepress.tools.deploy import endpoint as endpoints
from olivepress.tools.deploy import specification
from olivepress.tools.deploy.specification import Model, checked_name, traffic_of

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineEndpoint

Endpoint = click.option("--endpoint", "name", required=True, help="The endpoint: a name of its own in Azure's region.")


@click.command()
@Endpoint
@click.option("--deployment", default="blue", show_default=True, help="The deployment to make or to change.")
@click.option("--model", "model_name", required=True, help="NAME:VERSION in the workspace, or azureml://registries/…")
@click.option("--image", required=True, help="The image olivepress-serve, with the registry that Azure pulls it from.")
@click.option("--instance-type", default="Standard_DS3_v2", show_default=True, help="The machine.")
@click.option("--instances", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many of them.")
@click.option("--slots", type=click.IntRange(1, 256), default=8, show_default=True, help="Answers at a time in each.")
@click.option("--auth", type=click.Choice(specification.AUTH), default="key", show_default=True, help="Who may ask.")
@click.option(
    "--traffic", help="Per cent for each deployment, blue=90,green=10. Without it a first one gets all, others none."
)
@click.option("--dry-run", is_flag=True, help="Print what Azure would be asked for, checked by the SDK; call nobody.")
def deploy(
    name: str,
    deployment: str,
    model_name: str,
    image: str,
    instance_type: str,
    instances: int,
    slots: int,
    auth: str,
    traffic: str | None,
    dry_run: bool,
) -> None:
    """Serve a registered release by `olivepress serve` behind a managed online endpoint."""
    from azure.ai.ml import load_online_deployment, load_online_endpoint

    checked_name(name, "--endpoint")
    checked_name(deployment, "--deployment")
    shares = traffic_of(traffic) if traffic else {}
    model = Model.of(model_name, home=not dry_run)
    wanted_endpoint = specification.endpoint(name, auth, shares)
    wanted = specification.deployment(
        deployment, name, model, image=image, instance_type=instance_type, instances=instances, slots=slots
    )
    made_endpoint = azure_yaml.checked(wanted_endpoint, load_online_endpoint, "the SDK refuses the endpoint")
    made = azure_yaml.checked(wanted, load_online_deployment, "the SDK refuses the deployment")
    if dry_run:
        click.echo(f"{azure_yaml.shown(wanted_endpoint)}---\n{azure_yaml.shown(wanted)}", nl=False)
        return
    store = workspace()
    with explained(f"endpoint {name}", store):
        client = connect(store)
        endpoints.check_model(client, model)
        found = endpoints.find(client, name)
        deployments = {deployment, *(found.traffic if found else ())}
        endpoints.check_traffic(shares, deployments, name)
        if found is None:
            found = endpoints.create_endpoint(client, made_endpoint)
        elif found.auth_mode != auth:
            raise PressError(
                f"endpoint {name} asks for {found.auth_mode}, not {auth}: say --auth {found.auth_mode}, or take "
                "another endpoint."
            )
        endpoints.create_deployment(client, made)
        if not shares and deployments == {deployment}:
            shares = {deployment: 100}
        if shares:
            endpoints.share_out(client, found, shares)
        tell(endpoints.existing(client, store, name))


@click.command()
@Endpoint
@click.option("--traffic", required=True, help="Per cent for each deployment: blue=90,green=10.")
def traffic(name: str, traffic: str) -> None:
    """Share out an endpoint's requests among its deployments."""
    checked_name(name, "--endpoint")
    shares = traffic_of(traffic)
    store = workspace()
    with explained(f"endpoint {name}", store):
        client = connect(store)
        found = endpoints.existing(client, store, name)
        endpoints.check_traffic(shares, set(found.traffic), name)
        endpoints.share_out(client, found, shares)
        tell(endpoints.existing(client, store, name))


@click.command()
@Endpoint
@click.option("--deployment", help="Delete this deployment alone; without it the endpoint and all that it has.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def undeploy(name: str, deployment: str | None, yes: bool) -> None:
    """Delete an endpoint, or one of its deployments. The model stays registered."""
    checked_name(name, "--endpoint")
    store = workspace()
    with explained(f"endpoint {name}", store):
        client = connect(store)
        found = endpoints.existing(client, store, name)
        if deployment:
            _confirm(f"Delete the deployment {deployment} of {name} in {store}?", yes)
            endpoints.delete_deployment(client, found, deployment)
            click.echo(f"deleted  deployment {deployment} of {name}")
            return
        has = ", ".join(f"{one} with {share} %" for one, share in found.traffic.items()) or "no deployment"
        _confirm(f"Delete the endpoint {name} ({has}) in {store}?", yes)
        endpoints.delete_endpoint(client, name)
        click.echo(f"deleted  endpoint {name}")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise PressError(f"{question} Nobody is there to answer: say --yes.")
    click.confirm(question, abort=True)


def tell(endpoint: "OnlineEndpoint") -> None:
    """Where the endpoint answers, who gets what, and how to ask; no key."""
    click.echo(f"endpoint   {endpoint.name}")
    click.echo(f"answers    {endpoint.scoring_uri}")
    click.echo(f"asks for   {endpoint.auth_mode}")
    for name, share in endpoint.traffic.items():
        click.echo(f"traffic    {name} {share} %")
    click.echo(
        f"Its key: az ml online-endpoint get-credentials --name {endpoint.name}"
        if endpoint.auth_mode == "key"
        else "A token: az account get-access-token --resource https://ml.azure.com"
    )
