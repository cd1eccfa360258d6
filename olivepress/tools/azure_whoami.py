"""Who is signed in to Azure, and to which workspace: olivepress azure whoami"""

import base64
import json
import os

import click

from olivepress.azure.workspace import connect, credential, explained, workspace

SCOPE = "https://management.azure.com/.default"  # of the public cloud


@click.command()
def main() -> None:
    """Print the login, the subscription, the resource group and the workspace, as Azure itself confirms them."""
    store = workspace()
    with explained("Azure", store):
        client = connect(store)
        answer = client.workspaces.get(store.workspace)
        public = os.environ.get("AZUREML_CURRENT_CLOUD", "AzureCloud") == "AzureCloud"
        who = {"signed in as": login()} if public else {}
    rows = who | {
        "subscription": store.subscription,
        "resource group": answer.resource_group,
        "workspace": answer.name,
        "location": answer.location,
    }
    for key, value in rows.items():
        click.echo(f"{key:<16}{value}")


def login() -> str:
    """Who the access token is for: a user's name, or an application's id; and the tenant."""
    payload = credential().get_token(SCOPE).token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    who = claims.get("upn") or claims.get("unique_name") or f"application {claims.get('appid')}"
    return f"{who} (tenant {claims.get('tid')})"
