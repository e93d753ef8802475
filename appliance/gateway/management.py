"""All of the node's HTTP but V2's calls and models: which handlers serve it, over which data plane.

Runs in the gateway. The application, its errors' form and its bounds are http.py's.
"""

from aiohttp import web

from appliance.gateway import (
    activity_api,
    backups_api,
    copies_api,
    deploys_api,
    keys_api,
    mesh_api,
    mesh_membership_api,
    mesh_servers_api,
    metrics,
    models_api,
    node_api,
    openapi,
    plain,
    program_api,
    traffic_api,
    v2_memory_api,
)
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.deployment import Deployer
from appliance.gateway.operations import bind


def add_routes(app: web.Application, dataplane: DataPlane, deployer: Deployer) -> None:
    """Serve plain calls, management, health, metrics and the OpenAPI document from `app`."""
    bind(app, plain.OPERATIONS, plain.PlainCalls(dataplane))
    bind(app, models_api.OPERATIONS, models_api.Models(dataplane, deployer))
    bind(app, deploys_api.OPERATIONS, deploys_api.Deploys(dataplane, deployer))
    bind(app, backups_api.OPERATIONS, backups_api.BackupsApi(dataplane))
    bind(app, keys_api.OPERATIONS, keys_api.Keys(dataplane))
    bind(app, (*node_api.OPERATIONS, *node_api.UNLISTED), node_api.Node(dataplane))
    bind(app, mesh_api.OPERATIONS, mesh_api.MeshApi(dataplane))
    membership = mesh_membership_api.MeshMembershipApi(dataplane)
    bind(app, (*mesh_membership_api.OPERATIONS, *mesh_membership_api.UNLISTED), membership)
    bind(app, mesh_servers_api.UNLISTED, mesh_servers_api.MeshServersApi(dataplane))
    bind(app, program_api.OPERATIONS, program_api.ProgramApi(dataplane))
    bind(app, activity_api.OPERATIONS, activity_api.ActivityApi(dataplane))
    bind(app, copies_api.OPERATIONS, copies_api.CopiesApi(dataplane))
    bind(app, traffic_api.OPERATIONS, traffic_api.TrafficApi(dataplane))
    bind(app, metrics.OPERATIONS, metrics.Metrics(dataplane))
    bind(app, openapi.OPERATIONS, openapi.OpenApi())
    bind(app, v2_memory_api.OPERATIONS, v2_memory_api.V2Memory(dataplane))
