-- What is stored of deleted keys until its segment is removed costs disk, not memory: opening a journal over it takes as
-- much as its live keys.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")

local system = require("spec.support.system")

local KEYS, KEY_BYTES, MAX_KIB = 40000, 200, 3072 -- 40 000 entries of an index are 11 MiB

local SCRIPT = [[
local fs, journal, sys = require("host.fs"), require("host.journal"), require("host.sys")
local dir, keys = sys.env("DIR"), tonumber(sys.env("KEYS"))
local function rss_kib() return tonumber(fs.read("/proc/self/status"):match("VmRSS:%s*(%d+)")) end
journal.open({ backend = "file", dir = dir .. "/empty" }):close()
local before = rss_kib()
local opened = assert(journal.open({ backend = "file", dir = dir .. "/journal" }))
print(rss_kib() - before, opened:stats().keys, opened:stats().records)
for i = 1, keys do
  local key = ("k"):rep(sys.env("KEY_BYTES") - 8) .. string.format("%08d", i)
  assert(opened:append(key, "x"))
  local lsn = assert(opened:remove(key))
  if i % 1000 == 0 then assert(opened:wait(lsn)) end
end
opened:close()
]]

describe("a journal over many deleted keys", function()
  local optional = system.is_slow and pending or it -- a sanitizer keeps what is freed

  optional("is opened without memory for them", function()
    local dir = assert(fs.temp_dir("macp-journal-memory-"))
    assert(fs.write(dir .. "/script.lua", SCRIPT))
    local function run(keys)
      local proc = assert(child.spawn({
        file = sys.executable(), args = { "run", dir .. "/script.lua" }, stdout = "pipe", stderr = "null",
        env = { DIR = dir, KEYS = tostring(keys), KEY_BYTES = tostring(KEY_BYTES),
          PATH = sys.env("PATH"), MACP_ROOT = sys.env("MACP_ROOT") },
      }))
      local line = proc:read_line("stdout")
      assert.equal(0, proc:wait().code)
      proc:close()
      return line:match("^(%-?%d+)%s+(%d+)%s+(%d+)$")
    end
    run(KEYS)
    local grown, keys, records = run(0)
    fs.remove_tree(dir)
    assert.same({ "0", tostring(2 * KEYS + 1) }, { keys, records })
    assert.is_true(tonumber(grown) < MAX_KIB, grown .. " KiB")
  end)
end)
