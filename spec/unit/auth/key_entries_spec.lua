local crypto = require("host.crypto")

local api_key = require("macp.auth.api_key")
local chain = require("macp.auth.chain")
local key_entries = require("macp.auth.key_entries")
local scopes = require("macp.auth.scopes")
local time = require("macp.core.time")

local HEX = crypto.hex(crypto.sha256("the key"))
local TENANT = "tenant: expected 1 to 63 of a-z, 0-9, - and _, the first one a letter or digit"
local EXPIRES = "expires: expected a date like 2027-01-31 or 2027-01-31T12:00:00Z, in UTC"
local OTHER = crypto.hex(crypto.sha256("another key"))

local function item(options, name) return (name or "ops") .. ":sha256:" .. HEX .. (options or "") end

local function names_of(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("entries of the list of keys", function()
  local function read(...) return key_entries.of_list({ ... }, "AUTH_API_KEYS") end

  it("are plain keys, or digests with options", function()
    local options = ";tenant=acme; scopes=runs:read+webhooks:*;expires=2027-01-31"
    local entries = assert(read("plain", item(), item(options, "ci")))
    assert.same({ crypto.sha256("plain"), "default" }, { entries[1].digest, entries[1].tenant })
    assert.same({ nil, nil, nil }, { entries[1].name, entries[1].scopes, entries[1].expires_ms })
    assert.same({ crypto.sha256("the key"), "ops", "default" },
      { entries[2].digest, entries[2].name, entries[2].tenant })
    assert.same({ "ci", "acme", time.parse_iso("2027-01-31") },
      { entries[3].name, entries[3].tenant, entries[3].expires_ms })
    assert.same({ "runs:read", "webhooks:read", "webhooks:write" }, names_of(entries[3].scopes))
  end)

  it("keep plain keys that look a little like entries", function()
    for _, key in ipairs({ "a;b=c", "sha256:" .. HEX, "x:md5:1;tenant=y" }) do
      assert.equal(crypto.sha256(key), assert(read(key))[1].digest)
    end
  end)

  local NAME = "AUTH_API_KEYS, entry 1: name: expected "
  local OPS = "AUTH_API_KEYS, entry 1 (ops): "
  local bad = {
    { ":sha256:" .. HEX, NAME .. "1 to 64 of a-z, A-Z, 0-9, ., _ and -" },
    { "a b:sha256:" .. HEX, NAME .. "1 to 64 of a-z, A-Z, 0-9, ., _ and -" },
    { ("a"):rep(65) .. ":sha256:" .. HEX, NAME .. "1 to 64 of a-z, A-Z, 0-9, ., _ and -" },
    { "0123abcd:sha256:" .. HEX,
      NAME .. "something else than 8 hexadecimal digits, which stand for keys without a name" },
    { "anonymous:sha256:" .. HEX,
      NAME .. 'something else than "anonymous", which stands for callers without a key' },
    { "ops:sha256:" .. HEX:sub(2), OPS .. "sha256: expected 64 hexadecimal digits" },
    { "ops:sha256:the key", OPS .. "sha256: expected 64 hexadecimal digits" },
    { item(";tenant=Acme"), OPS .. TENANT .. ', got "Acme"' },
    { item(";tenant="), OPS .. TENANT .. ', got ""' },
    { item(";scopes=rnus:read"), OPS .. 'scopes: "rnus:read" is no scope (did you mean `runs:read`?); there are read, '
      .. "write, admin, runs:*, runs:read, runs:write, runtime:*, runtime:read, runtime:write, webhooks:*, "
      .. "webhooks:read, webhooks:write, modes:*, modes:read, audit:*, audit:read, admin:*, admin:read, admin:write" },
    { item(";tenant=acme;scopes=read+admin"),
      OPS .. 'scopes: admin reaches what all tenants share: it is for keys of the tenant "default"' },
    { item(";tenant=acme;scopes=runtime:write"),
      OPS .. 'scopes: runtime:write reaches what all tenants share: it is for keys of the tenant "default"' },
    { item(";expires=tomorrow"), OPS .. EXPIRES },
    { item(";expires=2027-02-30"), OPS .. EXPIRES },
    { item(";tenat=acme"),
      "AUTH_API_KEYS, entry 1: option 1: expected tenant=, scopes= or expires= (did you mean `tenant`?)" },
    { item(";acme"), "AUTH_API_KEYS, entry 1: option 1: expected tenant=, scopes= or expires=" },
    { item(";tenant=a;tenant=b"), "AUTH_API_KEYS, entry 1: tenant is given twice" },
  }
  for i, case in ipairs(bad) do
    it("are refused with what was expected, case " .. i, function()
      assert.same({ nil, case[2] }, { read(case[1]) })
    end)
  end
end)

describe("entries of a keys file", function()
  local function read(text) return key_entries.of_file(text, "keys.json") end
  local function one(members) return '{"keys":[{"name":"ops","sha256":"' .. HEX .. '"' .. members .. "}]}" end

  it("are read like those of the list", function()
    local entries = assert(read(one(',"tenant":"acme","scopes":["write"],"expires":"2027-01-31T12:00:00Z"')))
    assert.same({ crypto.sha256("the key"), "ops", "acme", time.parse_iso("2027-01-31T12:00:00Z") },
      { entries[1].digest, entries[1].name, entries[1].tenant, entries[1].expires_ms })
    assert.is_nil(entries[1].scopes["admin:read"])
    assert.is_true(entries[1].scopes["runs:write"] and entries[1].scopes["audit:read"])
    assert.same({}, names_of(assert(read(one(',"scopes":[]')))[1].scopes))
    assert.is_nil(assert(read(one(',"tenant":null,"scopes":null,"expires":null')))[1].scopes)
    assert.same({}, read('{"keys":[]}'))
  end)

  local bad = {
    { "{", "keys.json: expected JSON: " }, { "[]", 'keys.json: expected an object { "keys": [...] }' },
    { '{"keys":{}}', 'keys.json: expected an object { "keys": [...] }' },
    { '{"keys":[],"key":1}', 'keys.json: unknown member "key" (did you mean `keys`?)' },
    { '{"keys":["x"]}', "keys.json: keys[1]: expected an object" },
    { one(',"key":"secret"'), 'keys.json: keys[1]: unknown member "key"' },
    { one(',"scopes":"read"'), "keys.json: keys[1]: scopes: expected an array of texts" },
    { one(',"scopes":[1]'), "keys.json: keys[1]: scopes: expected an array of texts" },
    { one(',"tenant":1'), "keys.json: keys[1] (ops): " .. TENANT },
    { one(',"expires":1'), "keys.json: keys[1] (ops): " .. EXPIRES },
    { '{"keys":[{"name":"ops"}]}', "keys.json: keys[1] (ops): sha256: expected 64 hexadecimal digits" },
    { '{"keys":[{}]}', "keys.json: keys[1]: name: expected 1 to 64 of a-z, A-Z, 0-9, ., _ and -" },
  }
  for i, case in ipairs(bad) do
    it("are refused with what was expected, case " .. i, function()
      local entries, reason = read(case[1])
      assert.is_nil(entries)
      assert.equal(case[2], reason:sub(1, #case[2]))
      assert.is_nil(reason:find("secret", 1, true))
    end)
  end
end)

describe("entries of several places", function()
  local function list(...) return assert(key_entries.of_list({ ... }, "list")) end

  it("are one list; the same plain key may be there twice", function()
    assert.equal(3, #assert(key_entries.join(list("a", "b", "a"), list(item()))))
  end)

  it("may not name the same key or the same name twice", function()
    assert.same({ nil, "list, entry 1 (b): the same key as list, entry 1 (ops)" },
      { key_entries.join(list(item()), list(item("", "b"))) })
    assert.same({ nil, "list, entry 2 (ops): the same key as list, entry 1" },
      { key_entries.join(list("the key", item())) })
    assert.same({ nil, "list, entry 2 (ops): the same name as list, entry 1 (ops)" },
      { key_entries.join(list(item(), "ops:sha256:" .. OTHER)) })
  end)
end)

describe("keys with options", function()
  local now = time.parse_iso("2027-01-30T23:59:59.999Z")
  local keys = api_key.new(assert(key_entries.of_list({
    item(";tenant=acme;scopes=read;expires=2027-01-31"), "ops2:sha256:" .. OTHER .. ";tenant=acme" }, "list")),
    { now_ms = function() return now end })
  local function ask(key) return keys:resolve({ headers = { authorization = "Bearer " .. key } }) end

  it("name the actor and its tenant", function()
    local actor = assert(ask("the key"))
    assert.same({ "ops", "api-key", "acme" }, { actor.id, actor.type, actor.tenant })
  end)

  it("are refused from the moment they expire", function()
    assert.truthy(ask("the key"))
    now = now + 1
    local actor, err = ask("the key")
    assert.same({ "UNAUTHENTICATED", "Expired authorization token" }, { err.code, err.message })
    assert.is_nil(actor)
    assert.truthy(ask("another key"))
    now = now - 1
  end)

  it("allow what their scopes say, and never what all tenants share", function()
    local resolvers = chain.new({ keys })
    local reading, everything = ask("the key"), ask("another key")
    assert.is_true(resolvers:allows(reading, "runs:read"))
    assert.same({ false, "missing scope runs:write" }, { resolvers:allows(reading, "runs:write") })
    assert.is_true(resolvers:allows(everything, "webhooks:write"))
    for _, scope in ipairs({ "admin:read", "admin:write", "runtime:write" }) do
      assert.same({ false, scope .. ' reaches what all tenants share: it is for keys of the tenant "default"' },
        { resolvers:allows(everything, scope) })
    end
    assert.is_true(resolvers:allows({ tenant = "default" }, "admin:write"))
  end)

  it("mark the actors of entries that are gone or changed, and keep the others", function()
    local source = assert(key_entries.of_list({ item(), "b:sha256:" .. OTHER }, "list"))
    local held = api_key.new(source)
    local function actor_of(key) return held:resolve({ headers = { authorization = key } }) end
    local first, second = actor_of("the key"), actor_of("another key")
    held:replace(assert(key_entries.of_list({ item(), "b:sha256:" .. OTHER .. ";scopes=read" }, "list")))
    assert.same({ nil, true }, { first.revoked, second.revoked })
    assert.equal(first, actor_of("the key"))
    assert.is_nil(actor_of("another key").revoked)
    held:replace({})
    assert.is_true(first.revoked)
    assert.is_nil(actor_of("the key")) -- nobody, not everybody
  end)

  it("let nobody in when a file brings none", function()
    local closed = api_key.new({}, { is_closed = true })
    local _, err = closed:resolve({ headers = { authorization = "x" } })
    assert.equal("Invalid authorization token", err.message)
  end)
end)

describe("words of scopes", function()
  it("read, write and admin stand for lists that grow", function()
    local read, write, admin = scopes.read({ "read" }), scopes.read({ "write" }), scopes.read({ "admin" })
    assert.same({ "audit:read", "modes:read", "runs:read", "runtime:read", "webhooks:read" }, names_of(read))
    assert.same({ "audit:read", "modes:read", "runs:read", "runs:write", "runtime:read", "runtime:write",
      "webhooks:read", "webhooks:write" }, names_of(write))
    assert.equal(#scopes.KNOWN, #names_of(admin))
  end)
end)
