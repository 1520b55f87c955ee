-- Credentials do not show: not in logs, not in errors, not in `macp config`. The real program, as chatty as it can be.

local crypto = require("host.crypto")
local fs = require("host.fs")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local issuer = require("spec.support.issuer")
local json = require("macp.core.json")
local program = require("spec.support.program")

describe("secrets", function()
  local dir
  local company = issuer.new({ alg = "HS256", key = {
    kty = "oct", k = "c2VjcmV0LWtleS1vZi10aGUtaXNzdWVyLW5vdC1zaG93bg",
  } })
  local STATIC, INLINE_BAD = "static-secret-token", "half-written-secret"

  before_each(function() dir = assert(fs.temp_dir("macp-secrets-")) end)
  after_each(function() fs.remove_tree(dir) end)

  local function environment(more)
    local env = {
      MACP_ENV = "development", MACP_LOG_LEVEL = "debug", MACP_LOG_FORMAT = "json", MACP_ALLOW_INSECURE = "1",
      MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir .. "/data", MACP_AUTH_TOKENS_FILE = dir .. "/tokens.json",
      MACP_AUTH_ISSUER = company.issuer, MACP_AUTH_JWKS_JSON = company:jwks(), MACP_AUTH_JWT_ALGS = "HS256",
    }
    for name, value in pairs(more or {}) do env[name] = value end
    return env
  end

  -- What a command prints, and its exit code.
  local function run(args, env)
    local proc = program.start({ args = args, env = env })
    local status = proc:wait(15000)
    return proc:output(), status.code
  end

  local function assert_hidden(text, secrets)
    for name, secret in pairs(secrets) do assert.is_nil(text:find(secret, 1, true), name .. " shows in:\n" .. text) end
  end

  it("stay out of the log and of every answer", function()
    assert(fs.write(dir .. "/tokens.json", json.encode({ { token = STATIC, sender = "ann" } })))
    local signed = company:token()
    local secrets = {
      static = STATIC, signed = signed, signature = signed:match("[^.]+$"), key = company.jwk.k, bad = INLINE_BAD,
      wrong = "wrong-secret-token", other = company:token({ iss = "other" }),
    }
    local proc = program.start({ args = { "runtime" }, env = environment() })
    local port = proc:wait_line("ready.*runtime 127%.0%.0%.1:(%d+)")
    local calls = client.connect("127.0.0.1:" .. port)
    local answers = {}
    local tried = {
      STATIC, signed, secrets.wrong, secrets.other, signed .. "x", STATIC .. ".x", ("x"):rep(8193),
    }
    for _, token in ipairs(tried) do
      local ack = calls:send(token, client.start_envelope(crypto.uuid4()))
      answers[#answers + 1] = ack.error and ack.error.message or "ok"
      local _, err = calls:call(token, "ListSessions")
      answers[#answers + 1] = err and err.message or "ok"
      local stream = calls:stream(token)
      stream:half_close()
      _, err = stream:read()
      answers[#answers + 1] = err and err.message or "ok"
    end
    assert.same({ "ok", "ok", "ok", "ok", "ok", "ok" }, { unpack(answers, 1, 6) })
    -- a file that is broken in the middle of a token, then one that revokes
    assert(fs.write(dir .. "/tokens.json", '[{"token":"' .. INLINE_BAD))
    proc:kill("HUP")
    proc:wait_line("(auth%.reload_failed)")
    assert.truthy(calls:call(STATIC, "ListSessions"))
    assert(fs.write(dir .. "/tokens.json", json.encode({ { token = INLINE_BAD, sender = "ann" } })))
    proc:kill("HUP")
    eventually(function() return calls:call(STATIC, "ListSessions") == nil end, 3000, "the revocation")
    assert.truthy(calls:call(INLINE_BAD, "ListSessions"))
    calls.channel:close()
    proc:kill("TERM")
    assert.equal(0, proc:wait(15000).code)
    local output = proc:output()
    assert.truthy(output:find("auth.refused", 1, true), output)
    assert_hidden(output .. "\n" .. table.concat(answers, "\n"), secrets)
  end)

  it("that nobody can use are told without showing them", function()
    assert(fs.write(dir .. "/tokens.json", json.encode({ { token = "with.dot-secret", sender = "ann" } })))
    local proc = program.start({ args = { "runtime" }, env = environment({ MACP_AUTH_JWT_ALGS = "none,hs256" }) })
    proc:wait_line("(process%.ready)")
    proc:kill("TERM")
    assert.equal(0, proc:wait(15000).code)
    local output = proc:output()
    for _, word in ipairs({ "auth.token_unusable", '"entry":1', "auth.unknown_algorithm", '"algorithm":"none"' }) do
      assert.truthy(output:find(word, 1, true), output)
    end
    assert_hidden(output, { token = "with.dot-secret" })
  end)

  it("stay out of macp config, also when they are wrong", function()
    local url = "https://reader:url-secret@issuer.test/jwks"
    local tokens = '[{"token":"' .. STATIC .. '","sender":"s"}]'
    local env = environment({ MACP_AUTH_TOKENS_JSON = tokens, MACP_AUTH_JWKS_URL = url })
    for _, args in ipairs({ { "config", "--changed" }, { "config", "--changed", "--json" } }) do
      local text, code = run(args, env)
      assert.equal(0, code, text)
      assert.truthy(text:find("auth_jwks_json", 1, true))
      assert_hidden(text, { static = STATIC, key = company.jwk.k, url = "url-secret" })
    end
    env.MACP_AUTH_TOKENS_JSON = '[{"token":"' .. STATIC
    env.MACP_AUTH_JWKS_JSON = '{"keys":[{"kty":"oct","k":"' .. company.jwk.k
    local text, code = run({ "config" }, env)
    assert.equal(2, code)
    assert.truthy(text:find("MACP_AUTH_TOKENS_JSON must be JSON", 1, true))
    assert_hidden(text, { static = STATIC, key = company.jwk.k })
  end)

  it("stay out of the words about a configuration that cannot work", function()
    local text, code = run({ "runtime" }, environment({
      MACP_AUTH_TOKENS_JSON = '[{"token":"' .. STATIC .. '"}]',
      MACP_AUTH_JWKS_JSON = '{"keys":[{"kty":"oct","use":"enc","k":"' .. company.jwk.k .. '"}]}',
    }))
    assert.not_equal(0, code)
    assert.truthy(text:find("MACP_AUTH_TOKENS_JSON: tokens[1]: sender must be a non-empty string", 1, true), text)
    assert.truthy(text:find("MACP_AUTH_JWKS_JSON: has no usable key (keys[1]: use is not sig)", 1, true), text)
    assert_hidden(text, { static = STATIC, key = company.jwk.k })
  end)
end)
