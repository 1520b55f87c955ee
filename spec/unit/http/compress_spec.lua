-- Which replies are compressed, and what is said about it.

local gzip = require("host.gzip")

local compress = require("macp.http.steps.compress")

local fakes = require("spec.unit.http.fakes")
local gunzip = require("spec.support.gunzip")

local TEXT = '{"text":"' .. ("much the same, "):rep(1000) .. '"}'
local TYPES = { json = "application/json", lines = "application/x-ndjson", text = "text/plain; version=0.0.4",
  html = "text/html; charset=utf-8", image = "image/png", other = "application/octet-stream" }

local function route(path, reply, more)
  local made = { method = "GET", path = path, public = true, summary = "x", returns = { [200] = {} },
    handler = function() return 200, unpack(reply, 1, 2) end }
  for name, value in pairs(more or {}) do made[name] = value end
  return made
end

-- The body of a compressed reply: it comes in chunks.
local function sent(reply)
  assert.is_nil(reply.body)
  assert.is_true(reply.finished)
  return table.concat(reply.chunks)
end

describe("a reply", function()
  local routes = {
    route("/large", { TEXT }), route("/table", { { text = ("x"):rep(5000) } }), route("/small", { "[]" }),
    route("/limit", { ("x"):rep(compress.MIN_BYTES) }), route("/below", { ("x"):rep(compress.MIN_BYTES - 1) }),
    route("/packed", { TEXT, { ["content-encoding"] = "br" } }), route("/exact", { TEXT, { etag = '"strong"' } }),
    route("/fixed", { TEXT, { ["cache-control"] = "private, no-transform" } }),
    route("/tagged", { TEXT }, { etag = true }), route("/constant", { TEXT }, { constant = true, etag = true }),
    route("/nothing", {}),
  }
  for name, media in pairs(TYPES) do
    routes[#routes + 1] = route("/" .. name, { TEXT, { ["content-type"] = media } })
  end
  local application = fakes.application(routes)

  -- Status, headers and the body as it was sent. (yields)
  local function get(path, accepted, more)
    local headers = { ["accept-encoding"] = accepted }
    for name, value in pairs(more or {}) do headers[name] = value end
    local reply = fakes.reply()
    application:handler()(fakes.request({ path = path, headers = headers }), reply)
    return reply
  end

  it("is not compressed unless that is wanted", function()
    local as_it_is = fakes.application({ route("/large", { TEXT }) }, { config = {} })
    local reply = fakes.reply()
    as_it_is:handler()(fakes.request({ path = "/large", headers = { ["accept-encoding"] = "gzip" } }), reply)
    assert.is_true(reply.body == TEXT)
    assert.is_nil(reply.headers["content-encoding"])
    assert.is_nil((reply.headers.vary or ""):find("Encoding", 1, true))
  end)

  it("that is large is compressed for who accepts it, and says so", function()
    local reply = get("/large", "gzip, deflate, br")
    assert.same({ 200, "gzip", "Origin, Accept-Encoding", "application/json; charset=utf-8" }, { reply.status,
      reply.headers["content-encoding"], reply.headers.vary, reply.headers["content-type"] })
    assert.is_true(#sent(reply) < #TEXT / 10)
    assert.equal(TEXT, gunzip(sent(reply)))
    assert.equal('{"text":"' .. ("x"):rep(5000) .. '"}', gunzip(sent(get("/table", "gzip"))))
  end)

  it("leaves the headers alone that its route gives each time", function()
    for _ = 1, 2 do
      local reply = get("/text", "gzip")
      assert.same({ "gzip", TEXT }, { reply.headers["content-encoding"], gunzip(sent(reply)) })
      reply = get("/text", nil)
      assert.same({ TEXT, nil }, { reply.body, reply.headers["content-encoding"] })
    end
  end)

  it("is compressed when the caller's words mean that", function()
    for field, expected in pairs({ gzip = true, GZIP = true, ["br;q=1.0, gzip;q=0.8, *;q=0.1"] = true, ["*"] = true,
      ["gzip;q=0.001"] = true, [" deflate ,gzip ; q=1"] = true, [""] = false, identity = false, br = false,
      ["gzip;q=0"] = false, ["gzip;q=0.0"] = false, ["*;q=0"] = false, ["gzip;q=0, *"] = false, ["x-gzip"] = false }) do
      assert.equal(expected and "gzip" or nil, get("/large", field).headers["content-encoding"], field)
    end
  end)

  it("that could be compressed says so to who does not accept it, too", function()
    local reply = get("/large", nil)
    assert.same({ TEXT, "Origin, Accept-Encoding" }, { reply.body, reply.headers.vary })
    assert.is_nil(reply.headers["content-encoding"])
  end)

  it("that is small is left alone", function()
    for path, packed in pairs({ ["/small"] = false, ["/below"] = false, ["/limit"] = true, ["/nothing"] = false }) do
      local reply = get(path, "gzip")
      assert.equal(packed and "gzip" or nil, reply.headers["content-encoding"], path)
      assert.equal(packed and "Origin, Accept-Encoding" or "Origin", reply.headers.vary)
    end
  end)

  it("that is no text, packed already, or not to be changed is left alone", function()
    for path, packed in pairs({ ["/json"] = true, ["/lines"] = true, ["/text"] = true, ["/html"] = true,
      ["/image"] = false, ["/other"] = false, ["/exact"] = false, ["/fixed"] = false }) do
      assert.equal(packed and "gzip" or nil, get(path, "gzip").headers["content-encoding"], path)
    end
    assert.same({ TEXT, "br" }, { get("/packed", "gzip").body, get("/packed", "gzip").headers["content-encoding"] })
  end)

  it("keeps its tag, which a caller may name whatever it accepts", function()
    local plain, packed = get("/tagged", nil), get("/tagged", "gzip")
    assert.equal(plain.headers.etag, packed.headers.etag)
    for _, accepted in ipairs({ "gzip", "identity" }) do
      local reply = get("/tagged", accepted, { ["if-none-match"] = packed.headers.etag })
      assert.same({ 304, nil, nil }, { reply.status, reply.body, reply.headers["content-encoding"] })
    end
  end)

  it("that is constant is compressed once, and as small as can be", function()
    local first = get("/constant", "gzip")
    assert.equal(TEXT, gunzip(sent(first)))
    assert.equal(tostring(assert(gzip(TEXT, 9))), sent(first))
    local kept = routes[10].compressed
    assert.equal(sent(first), sent(get("/constant", "gzip")))
    assert.equal(kept, routes[10].compressed)
  end)
end)
