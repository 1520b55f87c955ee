-- `macp runtime --check`: every problem of a start on its line, and nothing changed by looking.

local crypto = require("host.crypto")
local fs = require("host.fs")

local certificates = require("spec.support.certificates")
local client = require("spec.support.runtime_client")
local json = require("macp.core.json")
local program = require("spec.support.program")

describe("macp runtime --check", function()
  local dir

  setup(function()
    dir = assert(fs.temp_dir("macp-check-"))
    certificates.make(dir)
    assert(fs.mkdir_p(dir .. "/modes/broken"))
    assert(fs.write(dir .. "/modes/broken/mode.lua", "return {\n  id = 7,\n}\n"))
    assert(fs.mkdir_p(dir .. "/policies"))
    assert(fs.write(dir .. "/policies/bad.json", '{"policy_id":"p"'))
    assert(fs.write(dir .. "/tokens.json", '[{"token":"t"}]'))
  end)
  teardown(function() fs.remove_tree(dir) end)

  local function run(env, ...)
    local all = { MACP_DATA_DIR = dir .. "/data", MACP_ALLOW_INSECURE = "1", MACP_MEMORY_ONLY = false,
      MACP_STORAGE_BACKEND = false, MACP_LOG_FORMAT = "json", MACP_LOG_LEVEL = false, LOG_LEVEL = false,
      RUST_LOG = false }
    for name, value in pairs(env) do all[name] = value end
    local one = program.start({ args = { "runtime", "--check", ... }, env = all })
    local status = one:wait(20000)
    return status.code, one.lines
  end

  it("passes what would start, creates nothing and does not listen", function()
    local code, lines = run({ MACP_BIND_ADDR = "192.0.2.1:1" })
    assert.equal(0, code, table.concat(lines, "\n"))
    local text = table.concat(lines, "\n")
    for _, part in ipairs({ "authentication: dev", "transport: plain text", "warning: MACP_ALLOW_INSECURE=1: ",
      "store: none yet in " .. dir .. "/data", "the runtime would start" }) do
      assert.truthy(text:find(part, 1, true), part .. " is not in\n" .. text)
    end
    assert.is_nil(fs.stat(dir .. "/data"))
  end)

  it("names every problem of every part on a line of its own", function()
    local code, lines = run({
      MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_FILE = dir .. "/tokens.json",
      MACP_TLS_CERT_PATH = dir .. "/server.pem", MACP_TLS_KEY_PATH = dir .. "/client.key",
      MACP_TLS_CLIENT_AUTH = "require", MACP_POLICIES_DIR = dir .. "/policies",
      MACP_LIST_SESSIONS_MAX_PAGE_SIZE = "5", MACP_LIST_SESSIONS_DEFAULT_PAGE_SIZE = "6",
    }, "--modes", dir .. "/modes")
    assert.equal(2, code)
    local text = table.concat(lines, "\n")
    for _, part in ipairs({
      "MACP_LIST_SESSIONS_DEFAULT_PAGE_SIZE: must not be above", "MACP_AUTH_TOKENS_FILE",
      "MACP_TLS_KEY_PATH: " .. dir .. "/client.key: the private key is not the one of the certificate",
      "MACP_TLS_CLIENT_AUTH: set MACP_TLS_CLIENT_CA_PATH as well", "modes/broken/mode.lua:2: ",
      "MACP_POLICIES_DIR", "bad.json",
    }) do
      assert.truthy(text:find("problem: [^\n]*" .. part:gsub("%p", "%%%0")), part .. " is not in\n" .. text)
    end
    assert.equal("the runtime would not start", lines[#lines])
  end)

  it("fails for a mode that is broken, without which the runtime would start", function()
    local code, lines = run({}, "--modes", dir .. "/modes")
    assert.equal(2, code)
    assert.equal("the runtime would start, without the modes that are broken", lines[#lines])
  end)

  it("prints JSON for programs, also of settings that cannot be read", function()
    local code, lines = run({ MACP_MEMORY_ONLY = "1" }, "--json")
    assert.equal(0, code)
    local found = json.decode(lines[1])
    assert.same({ true, {} }, { found.ok, found.problems })
    assert.truthy(table.concat(found.warnings, "\n"):find("MACP_MEMORY_ONLY=1: nothing is stored", 1, true))
    code, lines = run({ MACP_CLEANUP_INTERVAL_SECS = "0", MACP_BIND_ADDR = "here" }, "--json")
    assert.equal(2, code)
    found = json.decode(lines[1])
    assert.is_false(found.ok)
    assert.same({ "MACP_BIND_ADDR must be IP:port, e.g. 127.0.0.1:50051, not `here`",
      "MACP_CLEANUP_INTERVAL_SECS must be at least 1, not `0`" }, found.problems)
  end)

  it("looks into the store, and says when it is in use", function()
    local rig = assert(client.start())
    rig:send("boss", client.start_envelope(crypto.uuid4()))
    local code, lines = run({ MACP_DATA_DIR = rig.dir })
    assert.equal(0, code)
    assert.truthy(table.concat(lines, "\n"):find("store: in use, not looked into", 1, true), table.concat(lines, "\n"))
    rig:stop()
    code, lines = run({ MACP_DATA_DIR = rig.dir })
    local text = table.concat(lines, "\n")
    assert.equal(0, code, text)
    assert.truthy(text:find("store: 1 sessions in " .. rig.dir, 1, true), text)
    for _, entry in ipairs(fs.list(rig.dir .. "/journal")) do
      if entry.type == "file" then assert(fs.write(rig.dir .. "/journal/" .. entry.name, "nonsense")) end
    end
    code, lines = run({ MACP_DATA_DIR = rig.dir })
    assert.equal(2, code, table.concat(lines, "\n"))
    assert.truthy(table.concat(lines, "\n"):find("problem: open the journal in " .. rig.dir, 1, true),
      table.concat(lines, "\n"))
    fs.remove_tree(rig.dir)
  end)

  it("does not serve with --json alone", function()
    local one = program.start({ args = { "runtime", "--json" }, env = { MACP_ALLOW_INSECURE = "1" } })
    assert.equal(3, one:wait(20000).code)
    assert.truthy(one:output():find("--json goes with --check", 1, true))
  end)
end)
