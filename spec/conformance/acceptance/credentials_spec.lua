-- Acceptance: TLS, signed tokens, observers.

local certificates = require("spec.support.certificates")
local acceptance = require("spec.support.acceptance")
local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")

local client = require("spec.support.runtime_client")
local issuer = require("spec.support.issuer")

local own_it = acceptance.own_it(it, pending)
local NOT_JSON = "not.a.token"

describe("acceptance: TLS", function()
  own_it("serves start and GetSession, and nothing in plain text", function()
    acceptance.with_dir(function(certs)
      certificates.make(certs)
      acceptance.with({
        env = { MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"agent://lead"}]',
          MACP_TLS_CERT_PATH = certs .. "/server.pem", MACP_TLS_KEY_PATH = certs .. "/server.key" },
        tls = { roots_pem = assert(fs.read(certs .. "/ca.pem")) },
      }, function(at)
        local session = at:session({ mode = "decision", by = "t" })
        assert.equal(1, session:metadata().state)
        local plain = client.connect(at.address)
        local _, err = plain:call("t", "Initialize", { supported_protocol_versions = { "1.0" } })
        plain.channel:close()
        assert.equal(rpc.status.UNAVAILABLE, err.status)
      end)
    end)
  end)
end)

describe("acceptance: observers", function()
  own_it("read sessions of others, strangers do not", function()
    local tokens = '[{"token":"lead","sender":"lead"},{"token":"eve","sender":"eve"},'
      .. '{"token":"eye","sender":"eye","is_observer":true}]'
    acceptance.with({ env = { MACP_AUTH_TOKENS_JSON = tokens } }, function(at)
      local id = at:session({ mode = "decision", by = "lead" }).id
      assert.equal(0, (at:ask("eye", "GetSession", { session_id = id })))
      assert.equal(rpc.status.PERMISSION_DENIED, (at:ask("eve", "GetSession", { session_id = id })))
    end)
  end)
end)

describe("acceptance: signed tokens", function()
  -- A symmetric key as it stands in the suite's JWKS: no kid, standard base64 with padding.
  local KEY = { kty = "oct", k = "c3ltbWV0cmljLXNlY3JldC1vZi10aGUtc3BlYy0wMDAwMDA+Pz8=" }
  local company = issuer.new({ alg = "HS256", key = KEY })

  local function env(more)
    local all = { MACP_AUTH_ISSUER = company.issuer, MACP_AUTH_AUDIENCE = "macp-runtime",
      MACP_AUTH_JWKS_JSON = company:jwks(), MACP_AUTH_JWT_ALGS = "HS256" }
    for name, value in pairs(more or {}) do all[name] = value end
    return all
  end

  own_it("name the initiator, and are refused in an ack when they are bad", function()
    acceptance.with({ env = env() }, function(at)
      local good = company:token({ sub = "agent://lead" })
      local session = at:session({ mode = "decision", by = good })
      assert.equal("agent://lead", session:metadata().initiator)
      local forger = issuer.new({ alg = "HS256", key = { kty = "oct", k = crypto.base64url_encode(("x"):rep(32)) } })
      local bad = {
        ["expired"] = company:token({ exp = 1600000000 }), ["of another issuer"] = company:token({ iss = "https://x" }),
        ["forged"] = forger:token({}), ["opaque"] = NOT_JSON, ["missing"] = false,
        ["for another audience"] = company:token({ aud = "other" }),
        ["without a subject"] = company:token({ sub = "" }),
      }
      for what, token in pairs(bad) do
        local ack = at:new_session({ mode = "decision" })
        ack.by = token or nil
        ack = at.rig:send(token or nil, ack:start_envelope())
        assert.same({ false, "UNAUTHENTICATED", what }, { ack.ok, ack.error.code, what })
        assert.equal(rpc.status.UNAUTHENTICATED, (at:ask(token or nil, "ListSessions")))
      end
    end)
  end)

  own_it("with HS256 need the word for it", function()
    acceptance.with({ env = env({ MACP_AUTH_JWT_ALGS = false }) }, function(at)
      assert.equal(rpc.status.UNAUTHENTICATED, (at:ask(company:token(), "ListSessions")))
    end)
  end)
end)
