-- Large answers as gzip over real HTTP; event streams and downloads never.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")

local gunzip = require("spec.support.gunzip")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("answers to callers that accept gzip", function()
  local rig, id

  setup(function()
    rig = plane_rig.start()
    id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed", 20000)
  end)
  teardown(function() rig:destroy() end)

  local function get(path, accepted)
    local reply = assert(fetch.request({ url = rig.plane.url .. path, headers = { ["accept-encoding"] = accepted },
      max_body_bytes = 4 * 1024 * 1024 }))
    return reply.headers, tostring(reply.body or "")
  end

  it("are the same ones, and a part of their size", function()
    for _, path in ipairs({ "/docs-json", "/runs/" .. id .. "/events", "/runs/" .. id .. "/state", "/metrics" }) do
      local plain_headers, plain = get(path, "identity")
      local headers, packed = get(path, "gzip")
      assert.same({ nil, "gzip", tostring(#packed) }, { plain_headers["content-encoding"], headers["content-encoding"],
        headers["content-length"] })
      assert.equal("Origin, Accept-Encoding", headers.vary)
      assert.equal(headers.vary, plain_headers.vary)
      assert.is_true(#packed < #plain / 2, path)
      local text = gunzip(packed)
      if path ~= "/metrics" then assert.same(json.decode(plain), json.decode(text)) end
    end
  end)

  it("are as they were when they are small", function()
    local headers, text = get("/healthz", "gzip")
    assert.same({ nil, "Origin" }, { headers["content-encoding"], headers.vary })
    assert.is_true(json.decode(text).ok)
  end)

  it("are never compressed when they are streams", function()
    for _, path in ipairs({ "/stream", "/replay/stream?mode=instant", "/export/stream" }) do
      local stream = rig:stream("/runs/" .. id .. path, { ["accept-encoding"] = "gzip" })
      assert.same({ 200, nil }, { stream.status, stream.headers["content-encoding"] }, path)
      assert.is_true(#(assert(stream.reply:read())) > 0)
      stream:close()
    end
  end)
end)
