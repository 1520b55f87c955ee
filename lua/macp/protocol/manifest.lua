-- What a runtime says about itself: capabilities, identity and manifest.

local M = {}

local CONTENT_TYPE = "application/macp-envelope+proto"
local AGENT_ID = "macp-runtime"
local DESCRIPTION = "Coordinates agent sessions: judges envelopes, keeps the durable history and streams it."
local INSTRUCTIONS = "Authenticate every call with `authorization: Bearer <token>`. Start a session with a "
  .. "SessionStart envelope by Send or on a StreamSession; follow it with subscribe_session_id and after_sequence."

M.AGENT_ID = AGENT_ID

---InitializeResponse of a runtime that serves the given methods: a capability is claimed when its RPC is served.
---@param opts { version: string, modes: string[], offers: table<string, boolean> }
function M.initialize_response(opts)
  local offers = opts.offers
  return {
    selected_protocol_version = "1.0",
    runtime_info = {
      name = AGENT_ID, title = "MACP runtime", version = opts.version, description = DESCRIPTION, website_url = "",
    },
    capabilities = {
      sessions = {
        stream = offers.StreamSession, list_sessions = offers.ListSessions, watch_sessions = offers.WatchSessions,
      },
      cancellation = { cancel_session = offers.CancelSession },
      progress = { progress = offers.Send },
      manifest = { get_manifest = offers.GetManifest },
      mode_registry = { list_modes = offers.ListModes, list_changed = offers.WatchModeRegistry },
      roots = { list_roots = offers.ListRoots, list_changed = false },
      policy_registry = {
        register_policy = offers.RegisterPolicy, list_policies = offers.ListPolicies,
        list_changed = offers.WatchPolicies,
      },
      experimental = { features = { ext_mode_lifecycle = offers.RegisterExtMode and "true" or nil } },
    },
    supported_modes = opts.modes,
    instructions = INSTRUCTIONS,
  }
end

---The manifest of this runtime.
---@param modes string[]
function M.agent_manifest(modes)
  return {
    agent_id = AGENT_ID,
    title = "MACP runtime",
    description = DESCRIPTION,
    supported_modes = modes,
    input_content_types = { CONTENT_TYPE },
    output_content_types = { CONTENT_TYPE },
    metadata = {},
    transport_endpoints = {},
  }
end

return M
