-- Large answers as gzip over real HTTP, where that is switched on; event streams and downloads never.

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
    rig = plane_rig.start({ env = { HTTP_COMPRESSION = "gzip" } })
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
      assert.same({ nil, "gzip" }, { plain_headers["content-encoding"], headers["content-encoding"] })
      assert.equal("Origin, Accept-Encoding", headers.vary)
      assert.equal(headers.vary, plain_headers.vary)
      assert.is_true(#packed < #plain / 2, path)
      local text = gunzip(packed)
      if path ~= "/metrics" then assert.same(json.decode(plain), json.decode(text)) end
    end
  end)

  -- The console's proxy unpacks answers and passes their Content-Length on: what is longer than it is cut off.
  it("have no length that is another one once they are unpacked", function()
    for _, path in ipairs({ "/docs-json", "/runs/" .. id .. "/state", "/metrics" }) do
      local headers = get(path, "gzip, deflate, br")
      assert.same({ "gzip", "chunked", nil }, { headers["content-encoding"], headers["transfer-encoding"],
        headers["content-length"] }, path)
      local plain_headers, plain = get(path, "identity")
      assert.same({ nil, tostring(#plain) }, { plain_headers["content-encoding"], plain_headers["content-length"] })
    end
  end)

  it("are what their headers say each time", function()
    for i = 1, 4 do
      local accepted = i < 3 and "gzip" or "identity"
      local headers, text = get("/metrics", accepted)
      if accepted == "gzip" then text = gunzip(text) end
      assert.same({ accepted == "gzip" and "gzip" or nil, "# HELP " },
        { headers["content-encoding"], text:sub(1, 7) }, i .. ". " .. accepted)
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
