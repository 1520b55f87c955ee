-- `macp keys` as a process: what it prints lets somebody in, and what it refuses it explains.

local crypto = require("host.crypto")
local fs = require("host.fs")

local api_key = require("macp.auth.api_key")
local key_entries = require("macp.auth.key_entries")

local program = require("spec.support.program")

describe("macp keys", function()
  local dir

  setup(function() dir = assert(fs.temp_dir("macp-keys-command")) end)
  teardown(function() fs.remove_tree(dir) end)

  local function run(...)
    local child = program.start({ args = { "keys", ... } })
    return child:wait(20000).code, child:output()
  end

  local function in_file(text) return '{"keys":[' .. text .. "]}" end

  it("new makes a key, and the same entry in two spellings that lets it in", function()
    local code, output = run("new", "acme-ci", "--tenant", "acme", "--scopes", "runs:read,webhooks:*", "--expires",
      "2099-01-31")
    assert.equal(0, code)
    local key = output:match("key: (macp_[%w_-]+)")
    local listed = assert(key_entries.of_list({ output:match("AUTH_API_KEYS=(%S+)") }, "list"))
    local filed = assert(key_entries.of_file(in_file(output:match("AUTH_API_KEYS_FILE: ([^\n]+)")), "file"))
    listed[1].where, filed[1].where = nil, nil
    assert.same(listed, filed)
    local actor = assert(api_key.new(filed):resolve({ headers = { authorization = "Bearer " .. key } }))
    assert.same({ "acme-ci", "acme", true, nil },
      { actor.id, actor.tenant, actor.scopes["webhooks:write"], actor.scopes["runs:write"] })
    assert.are_not.equal(key, select(2, run("new", "acme-ci")):match("key: (%S+)"))
  end)

  it("new counts days", function()
    local _, output = run("new", "guest", "--expires", "30d")
    assert.truthy(output:find(";expires=%d%d%d%d%-%d%d%-%d%dT"))
  end)

  it("hash makes the entry of a key that exists and does not show it", function()
    assert(fs.write(dir .. "/key", "an old key\n"))
    local code, output = run("hash", "old", "--from", dir .. "/key")
    assert.equal(0, code)
    assert.truthy(output:find("AUTH_API_KEYS=old:sha256:" .. crypto.hex(crypto.sha256("an old key")) .. "\n", 1, true))
    assert.is_nil(output:find("an old key", 1, true))
  end)

  local refused = {
    { { "new", "a b" }, "macp: keys new: name: expected 1 to 64 of a-z, A-Z, 0-9, ., _ and -" },
    { { "new", "x", "--tenant", "Acme" },
      'macp: keys new: tenant: expected 1 to 63 of a-z, 0-9, - and _, the first one a letter or digit, got "Acme"' },
    { { "new", "x", "--scopes", "rubs:read" },
      'macp: keys new: scopes: "rubs:read" is no scope (did you mean `runs:read`?)' },
    { { "new", "x", "--tenant", "acme", "--scopes", "admin" },
      'macp: keys new: scopes: admin reaches what all tenants share: it is for keys of the tenant "default"' },
    { { "new", "x", "--expires", "soon" },
      "macp: keys new: expires: expected a date like 2027-01-31 or 2027-01-31T12:00:00Z, in UTC" },
    { { "new" }, "macp: keys new: NAME is missing" },
    { { "hash", "x", "--from", "/dev/null" }, "macp keys hash: /dev/null: there is no key in the first line", 1 },
    { { "hash", "x", "--from", "/nowhere" }, "macp keys hash: open /nowhere: No such file or directory", 1 },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. table.concat(case[1], " "), function()
      local code, output = run(unpack(case[1]))
      assert.equal(case[3] or 3, code, output)
      assert.truthy(output:find(case[2], 1, true), output)
    end)
  end

  it("check lists the keys of a file, or tells what is wrong with it", function()
    local hex = crypto.hex(crypto.sha256("k"))
    assert(fs.write(dir .. "/good.json", in_file('{"name":"ops","sha256":"' .. hex .. '"},{"name":"ci","tenant":"acme",'
      .. '"scopes":["audit:*","runs:read"],"expires":"2020-01-01","sha256":"' .. hex:gsub("^..", "00") .. '"}')))
    local code, output = run("check", dir .. "/good.json")
    assert.same({ 0, "ops  default  everything  never expires\n"
      .. "ci  acme  audit:read,runs:read  expired 2020-01-01T00:00:00.000Z" }, { code, output })
    assert(fs.write(dir .. "/bad.json", in_file('{"name":"ops"}')))
    code, output = run("check", dir .. "/good.json", dir .. "/bad.json", dir .. "/none.json")
    assert.equal(1, code)
    assert.truthy(output:find(dir .. "/bad.json: keys[1] (ops): sha256: expected 64 hexadecimal digits", 1, true))
    assert.truthy(output:find(dir .. "/none.json: open", 1, true), output)
  end)
end)
