-- Acceptance: discovery, without credentials.

local acceptance = require("spec.support.acceptance")
local rpc = require("host.rpc")
local task = require("host.task")

local STANDARD = { "macp.mode.decision.v1", "macp.mode.proposal.v1", "macp.mode.task.v1", "macp.mode.handoff.v1",
  "macp.mode.quorum.v1" }

describe("acceptance: discovery", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  local function ids(method)
    local found = {}
    for i, mode in ipairs(assert(at.rig:call(nil, method, {})).modes) do found[i] = mode.mode end
    return found
  end

  local function has(list, id)
    for _, name in ipairs(list) do
      if name == id then return true end
    end
    return false
  end

  it("selects 1.0 and names the runtime; roots are listed and never change", function()
    local reply = assert(at:initialize())
    assert.equal("1.0", reply.selected_protocol_version)
    assert.is_true(#reply.runtime_info.name > 0 and #reply.runtime_info.version > 0)
    assert.same({ true, false }, { reply.capabilities.roots.list_roots, reply.capabilities.roots.list_changed })
  end)

  it("refuses no version with INVALID_ARGUMENT and foreign ones with FAILED_PRECONDITION", function()
    assert.equal(rpc.status.INVALID_ARGUMENT, (at:ask(nil, "Initialize", { supported_protocol_versions = {} })))
    local status, _, err = at:ask(nil, "Initialize", { supported_protocol_versions = { "99.0" } })
    assert.equal(rpc.status.FAILED_PRECONDITION, status)
    assert.truthy(err.message:find("UNSUPPORTED_PROTOCOL_VERSION", 1, true), err.message)
  end)

  it("lists exactly the five standard modes, and multi-round among the extensions", function()
    assert.same(STANDARD, { unpack(ids("ListModes"), 1, 6) })
    assert.is_true(has(ids("ListExtModes"), acceptance.MULTI_ROUND))
  end)

  it("has a manifest for the empty agent id", function()
    local manifest = assert(at.rig:call(nil, "GetManifest", {})).manifest
    assert.is_true(#manifest.agent_id > 0 and #manifest.description > 0)
    assert.is_true(#manifest.supported_modes >= 6)
    for _, id in ipairs({ "macp.mode.decision.v1", acceptance.MULTI_ROUND }) do
      assert.is_true(has(manifest.supported_modes, id), id)
    end
  end)

  it("lists roots, and a watch of them stays open", function()
    assert.same({}, assert(at.rig:call(nil, "ListRoots", {})).roots)
    local watch = at:follow(nil, "WatchRoots")
    task.sleep(600)
    assert.is_nil(watch.ended)
    assert.equal(1, #watch.seen)
    watch.cancel()
  end)
end)
