-- What authentication costs: Send with a signed token against Send with a static one, and one signature's verification.

local jws = require("host.jws")
local sys = require("host.sys")

local issuer = require("spec.support.issuer")
local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local ROUNDS, CALLS, WARM = 5, 20000, 5000
local VERIFICATIONS = 2000

-- Verifications per second of a token of this algorithm, without remembering.
local function verify_rate(alg)
  local company = issuer.new({ alg = alg })
  local keys, token, algs = jws.keys(), company:token(), { alg }
  assert(keys:add(company:public_jwk()))
  local began = sys.mono_ms()
  for _ = 1, VERIFICATIONS do assert(keys:verify(token, algs)) end
  return VERIFICATIONS / (sys.mono_ms() - began) * 1000
end

return {
  name = "auth",
  about = "runtime Send, signed tokens against static ones",
  run = function(report)
    local company = issuer.new({ kid = "bench" })
    local st = stack.new()
    local proc = st:serve("runtime", { env = {
      MACP_AUTH_TOKENS_JSON = '[{"token":"lead","sender":"lead"}]', MACP_AUTH_ISSUER = company.issuer,
      MACP_AUTH_JWKS_JSON = company:jwks(),
    } })
    local prefix = load.sessions(st.target, 512)
    local signed = company:token({ sub = "lead", exp = math.floor(sys.now_ms() / 1000) + 3600 })
    local first, best = 0, { static = 0, signed = 0 }
    local function send(token, calls)
      local sent = load.send({
        target = st.target, prefix = prefix, sessions = 512, calls = calls, in_flight = 64, first = first,
        token = token,
      })
      first = first + calls
      return sent.rate
    end
    send("lead", WARM)
    for _ = 1, ROUNDS do -- in turn, so that both meet the same disk
      best.static = math.max(best.static, send("lead", CALLS))
      best.signed = math.max(best.signed, send(signed, CALLS))
    end
    report:at_least("RS256 token / static token, 64 in flight", best.signed / best.static, 0.8, "")
    report:note("  best of %d: static %.0f/s, RS256 %.0f/s", ROUNDS, best.static, best.signed)
    for _, alg in ipairs({ "RS256", "ES256", "HS256" }) do
      report:note("  verify %s %.1f us", alg, 1e6 / verify_rate(alg))
    end
    proc:kill()
    proc:wait()
    st:close()
  end,
}
