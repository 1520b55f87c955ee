-- The page of the API: complete, without anything from elsewhere, and served where it is wanted only.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("the page of the API", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { AUTH_API_KEYS = "key" } }) end)
  teardown(function() rig:destroy() end)

  local function get(path, headers)
    local reply = assert(fetch.request({ url = rig.plane.url .. path, headers = headers or {},
      max_body_bytes = 4 * 1024 * 1024 }))
    return reply, tostring(reply.body or "")
  end

  it("loads only what this program serves, without inline script", function()
    local reply, text = get("/docs")
    assert.same({ 200, "text/html; charset=utf-8" }, { reply.status, reply.headers["content-type"] })
    local policy = reply.headers["content-security-policy"]
    assert.truthy(policy:find("default-src 'none'", 1, true))
    assert.truthy(policy:find("script-src 'self';", 1, true))
    local count = 0
    for tag, address in text:gmatch("<(%a+)[^>]- src=\"([^\"]+)\"") do
      count = count + 1
      assert.equal("script", tag)
      assert.equal(200, get(address).status)
    end
    assert.equal(2, count)
    assert.is_nil(text:find("<script>", 1, true))
    assert.is_nil(text:find("https?://"))
    assert.equal(200, get(text:match("stylesheet\" href=\"([^\"]+)\"")).status)
  end)

  it("is the same for everybody: tagged, compressed, kept for an hour", function()
    for path, kind in pairs({ ["/docs"] = "text/html", ["/docs/start.js"] = "text/javascript",
      ["/docs/swagger-ui.css"] = "text/css", ["/docs/swagger-ui-bundle.js"] = "text/javascript" }) do
      local reply, text = get(path)
      assert.equal(200, reply.status)
      assert.equal(kind .. "; charset=utf-8", reply.headers["content-type"])
      assert.equal("public, max-age=3600", reply.headers["cache-control"])
      assert.equal("nosniff", reply.headers["x-content-type-options"])
      assert.is_true(#text > 100)
      local again, nothing = get(path, { ["if-none-match"] = reply.headers.etag })
      assert.same({ 304, "", reply.headers.etag }, { again.status, nothing, again.headers.etag })
    end
    assert.equal("gzip", get("/docs/swagger-ui-bundle.js").headers["content-encoding"])
  end)

  it("serves the bundle that the checksums name", function()
    local embed = require("host.embed")
    for sum, name in embed.read("web/swagger-ui/SHA256SUMS"):gmatch("(%x+)  (%S+)") do
      local text = embed.read("web/swagger-ui/" .. name)
      assert.equal(sum, (crypto.sha256(text):gsub(".", function(char) return string.format("%02x", char:byte()) end)))
    end
  end)

  it("is not there where it is not wanted", function()
    local quiet = rig:start_plane({ DOCS_ENABLED = "false" })
    for _, path in ipairs({ "/docs", "/docs-json", "/docs/start.js" }) do
      assert.equal(404, assert(fetch.request({ url = quiet.url .. path })).status)
    end
    quiet:close()
  end)
end)

describe("states and runs", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("are answered with 304 until they change", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local last
    eventually(function() -- the beginning is over
      local before = last
      last = select(2, rig:get("/runs/" .. id)).lastEventSeq
      return last >= 12 and last == before
    end)
    for _, path in ipairs({ "/runs/" .. id, "/runs/" .. id .. "/state" }) do
      local _, _, first = rig:get(path)
      assert.matches('^W/"', first.etag)
      local status, body = rig:get(path, { ["if-none-match"] = first.etag })
      assert.same({ 304 }, { status, body })
    end
    local _, _, before = rig:get("/runs/" .. id .. "/state")
    rig:propose(id, "p1")
    eventually(function() return rig:get("/runs/" .. id .. "/state", { ["if-none-match"] = before.etag }) == 200 end)
  end)
end)
