-- MACP_WATCH_POLICIES_OPEN: WatchPolicies for clients that send no credential there.

local client = require("spec.support.runtime_client")

local rpc = require("host.rpc")

local TOKENS = '[{"token":"ann","sender":"ann"}]'

describe("a runtime that shows policies to everybody who watches", function()
  it("asks for no credential there, and takes none amiss", function()
    local rig = assert(client.start({ env = { MACP_AUTH_TOKENS_JSON = TOKENS, MACP_MEMORY_ONLY = "1",
      MACP_WATCH_POLICIES_OPEN = "1" } }))
    for _, token in ipairs({ false, "wrong", "ann" }) do
      local watch = rig:watch(token or nil, "WatchPolicies")
      assert.equal(4, #assert(watch:read()).descriptors)
      watch:cancel()
    end
    for _, method in ipairs({ "GetPolicy", "ListPolicies" }) do
      local _, err = rig:call(nil, method, {})
      assert.equal(rpc.status.UNAUTHENTICATED, err.status)
    end
    rig:destroy()
  end)
end)
