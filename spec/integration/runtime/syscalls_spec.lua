-- The order of what reaches the disk, as the kernel sees it: everything was asked to be durable before anything relied
-- upon it. What a power cut leaves of the journal and of single files is tried in spec/host (power_disk.h).

local acceptance = require("spec.support.acceptance")
local syscalls = require("spec.support.syscalls")

local ANN = "agent://ann"
local NAMES = { "fsync", "fdatasync", "rename", "renameat", "renameat2" }

local test = syscalls.available() and it or pending

-- Starts on a directory that is not there yet, accepts a session, a message and a policy; fn(calls, data directory).
local function traced(fn)
  acceptance.with_dir(function(dir)
    local data, path = dir .. "/one/two", dir .. "/calls"
    acceptance.with({ env = { MACP_MEMORY_ONLY = "0", MACP_DATA_DIR = data }, prefix = syscalls.prefix(path, NAMES) },
      function(at)
        local session = at:session({ mode = "decision" })
        session:tell(ANN, "Proposal", { proposal_id = "p1", option = "a-word-to-find" })
        for i = 1, 3 do
          assert.is_true(at.rig:call("boss", "RegisterPolicy", { policy_descriptor = { policy_id = "policy.p" .. i,
            mode = "*", rules = "{}", schema_version = 1 } }).ok)
        end
        at.proc:kill("TERM")
        assert(at:wait(10000), "it did not end")
      end)
    fn(syscalls.read(path), data)
  end)
end

local function is_sync(call) return call.name == "fsync" or call.name == "fdatasync" end

-- The number of the first call from `from` on that syncs a path.
local function sync_of(calls, path, from)
  for i = from or 1, #calls do
    if is_sync(calls[i]) and calls[i].text:find("<" .. path .. ">", 1, true) then return i end
  end
end

describe("what reaches the disk", function()
  test("W2: is every directory above the journal, before the first record", function()
    traced(function(calls, data)
      local record
      for i, call in ipairs(calls) do
        local is_record = call.name == "fdatasync" and call.text:find("/one/two/journal/%d+%.seg>")
        if is_record and not record then record = i end
      end
      assert.is_truthy(record, "no record was flushed")
      local dir = data .. "/journal"
      for _ = 1, 4 do
        local at = sync_of(calls, dir)
        assert.is_true(at ~= nil and at < record, dir .. " is not synced before the first record")
        dir = dir:match("^(.*)/")
      end
    end)
  end)

  test("W3: is what a file holds before it gets its name, and the directory after it", function()
    traced(function(calls, data)
      local seen = 0
      for i, call in ipairs(calls) do
        local places = {}
        if call.name:find("^rename") then
          for at, name in call.text:gmatch('<([^>]*)>, "([^"]*)"') do places[#places + 1] = at .. "/" .. name end
          if #places == 0 then
            for name in call.text:gmatch('"([^"]*)"') do places[#places + 1] = name end
          end
        end
        local from, to = places[1], places[2]
        if from and from:find(data, 1, true) == 1 then
          seen = seen + 1
          local synced = sync_of(calls, from)
          assert.is_true(synced ~= nil and synced < i, from .. " is renamed before it is synced")
          assert.is_truthy(sync_of(calls, to:match("^(.*)/"), i), "the directory of " .. to .. " is not synced")
        end
      end
      assert.is_true(seen >= 4, "only " .. seen .. " files were put in place")
    end)
  end)
end)
