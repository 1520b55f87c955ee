-- The journal's files damaged, torn or without room, and the real program on top of them.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local program = require("spec.support.program")
local stores = require("spec.support.stores")
local system = require("spec.support.system")

local function proposal(name, rationale)
  return client.payload("macp.modes.decision.v1.ProposalPayload",
    { proposal_id = name, option = "A", rationale = rationale or "" })
end

local function send(world, session_id, name, rationale)
  return world:client():send("ann", client.envelope({
    session_id = session_id, message_id = name, payload = proposal(name, rationale),
  }))
end

local function start(world, session_id)
  local ack = world:client():send("boss", client.start_envelope(session_id, { ttl_ms = 3600000 }))
  assert(ack.ok, ack.error and ack.error.message)
end

-- Path and bytes of the newest segment, without the zeros behind its last record.
local function last_segment(world)
  local dir = world.data .. "/journal"
  local newest
  for _, entry in ipairs(assert(fs.list(dir))) do
    if entry.name:find("%.seg$") then newest = dir .. "/" .. entry.name end
  end
  local bytes = assert(fs.read(newest))
  local used = #bytes
  while bytes:byte(used) == 0 do used = used - 1 end
  return newest, bytes:sub(1, used + (8 - used % 8) % 8)
end

local function flip(bytes, at)
  return bytes:sub(1, at - 1) .. string.char(255 - bytes:byte(at)) .. bytes:sub(at + 1)
end

-- A runtime with two sessions of ten messages each, killed; nothing else is in its journal's tail. (yields)
local function with_history(fn)
  system.with({ database = false, role = "runtime", env = { MACP_CHECKPOINT_INTERVAL = "0" } }, function(world)
    local one, two = crypto.uuid4(), crypto.uuid4()
    start(world, one)
    start(world, two)
    for i = 1, 10 do
      assert.is_true(send(world, one, "one-" .. i).ok)
      assert.is_true(send(world, two, "two-" .. i).ok)
    end
    world:disconnect()
    world:crash()
    fn(world, one, two)
  end)
end

local function count(list) return #list end

describe("a torn journal tail", function()
  it("is cut off when a crash left half of a flush behind the last record", function()
    with_history(function(world, one, two)
      local path, bytes = last_segment(world)
      assert(fs.write(path, bytes .. crypto.random(777)))
      world:serve()
      world.program:wait_line("(journal%.tail_truncated)")
      assert.truthy(world.program:output():find("bytes of an interrupted flush behind offset " .. #bytes, 1, true))
      assert.equal(11, count(world:history(one)))
      assert.equal(11, count(world:history(two)))
      assert.is_true(send(world, two, "two-11").ok)
      world:stop()
      world:serve()
      assert.equal(12, count(world:history(two)))
      world:stop()
    end)
  end)

  it("costs no more than the record that is incomplete", function()
    with_history(function(world, one, two)
      local path, bytes = last_segment(world)
      assert(fs.write(path, bytes:sub(1, -25)))
      world:serve()
      assert.equal(11, count(world:history(one)))
      local ids = world:history(two)
      assert.equal("two-9", ids[#ids])
      local ack = send(world, two, "two-10")
      assert.same({ true, false }, { ack.ok, ack.duplicate })
      world:stop()
    end)
  end)
end)

describe("a damaged journal record", function()
  -- Damages a message of session `one` in the middle of the journal.
  local function damage(world)
    local path, bytes = last_segment(world)
    local at = assert(bytes:find("one-5", 1, true))
    assert(fs.write(path, flip(bytes, at)))
    return path:match("[^/]+$")
  end

  it("makes a strict program refuse to start, naming file and offset", function()
    with_history(function(world)
      local name = damage(world)
      local run = program.start({ args = { "serve", "--role", "runtime" }, env = {
        MACP_ALLOW_INSECURE = "1", MACP_DATA_DIR = world.data, MACP_BIND_ADDR = "127.0.0.1:0",
        MACP_STRICT_RECOVERY = "1",
      } })
      local status = run:wait(20000)
      assert.is_true(status.code ~= 0)
      local said = "segment " .. name .. " is damaged at offset %d+: a record does not match its checksum"
      assert.truthy(run:output():find(said), run:output())
    end)
  end)

  it("takes one session out of service and leaves the others alone", function()
    with_history(function(world, one, two)
      local name = damage(world)
      world:serve()
      assert.truthy(world.program:output():find(name .. " is damaged at offset", 1, true), world.program:output())
      assert.equal(11, count(world:history(two)))
      assert.is_true(send(world, two, "two-11").ok)
      local ack = send(world, one, "one-11")
      assert.is_false(ack.ok)
      assert.is_true(ack.error.code == "INTERNAL_ERROR" or ack.error.code == "SESSION_NOT_FOUND", ack.error.code)
      local again = world:client():send("boss", client.start_envelope(one, nil, { message_id = "another" }))
      assert.is_false(again.ok)
      world:stop()
    end)
  end)
end)

-- Whether a small file system can be had here. Blocks for a moment: for the load of this file.
local function can_mount()
  return os.execute("d=$(mktemp -d) && { mount -t tmpfs -o size=1m tmpfs $d && umount $d; s=$?; rmdir $d; exit $s; } "
    .. ">/dev/null 2>&1") == 0
end

describe("a full disk", function()
  local has_mount = can_mount()
  local test = has_mount and it or pending
  local dir

  local function run(...)
    local proc = assert(child.spawn({ file = "/bin/" .. (...), args = { select(2, ...) }, stderr = "null" }))
    local status = proc:wait()
    proc:close()
    return status.code == 0
  end

  setup(function()
    if not has_mount then return end
    dir = assert(fs.temp_dir("macp-small"))
    assert(run("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", dir), "mount a small file system")
  end)

  teardown(function()
    if dir == nil then return end
    run("umount", dir)
    fs.remove_tree(dir)
  end)

  after_each(function()
    for _, store in ipairs(stores.here()) do
      if dir then fs.remove_tree(dir .. "/" .. store.name) end
    end
  end)

  -- Fills the disk with pieces until about `left` bytes are free; the directory returned holds what fills it.
  local function take_room(name, piece, left)
    local filler, pieces = dir .. "/" .. name, 0
    assert(fs.mkdir_p(filler))
    while fs.write(filler .. "/" .. pieces, ("x"):rep(piece), { sync = false }) do pieces = pieces + 1 end
    fs.remove(filler .. "/" .. pieces) -- the one that did not fit
    for i = math.max(0, pieces - left / piece), pieces - 1 do assert(fs.remove(filler .. "/" .. i)) end
    return filler
  end

  for _, store in ipairs(stores.here()) do
    test("refuses messages, loses none, and accepts again when there is room: " .. store.name, function()
      local opts = { database = false, role = "runtime", data = dir .. "/" .. store.name, env = store.env }
      system.with(opts, function(world)
        local id, unborn, expected = crypto.uuid4(), crypto.uuid4(), { "start" }
        start(world, id)
        -- Sends until there is no room for a message of this size.
        local function fill(size)
          for _ = 1, 500 do
            local name = "m" .. #expected
            local ack = send(world, id, name, crypto.hex(crypto.random(size)))
            if not ack.ok then return ack.error.code end
            expected[#expected + 1] = name
          end
        end
        local filler = take_room("filler", 128 * 1024, 1024 * 1024)
        assert.equal("INTERNAL_ERROR", fill(16384))
        -- A store may have given room back meanwhile.
        local rest = take_room("rest", 4096, 0)
        assert.equal("INTERNAL_ERROR", fill(1))
        assert.equal("INTERNAL_ERROR", world:client():send("boss", client.start_envelope(unborn)).error.code)
        assert.same(expected, (world:history(id)))
        assert(fs.remove_tree(filler))
        assert(fs.remove_tree(rest))
        local name = "m" .. #expected
        eventually(function() return send(world, id, name).ok end, 5000, "acceptance")
        expected[#expected + 1] = name
        start(world, unborn)
        assert.same(expected, (world:history(id)))
        world:disconnect()
        world:crash()
        world:serve()
        assert.same(expected, (world:history(id)))
        world:stop()
      end)
    end)
  end
end)

describe("a data directory that vanishes", function()
  local LARGE = 16384

  local function move(from, to)
    local proc = assert(child.spawn({ file = "/bin/mv", args = { from, to } }))
    assert.equal(0, proc:wait().code)
    proc:close()
  end

  for _, store in ipairs(stores.here()) do
    it("and comes back costs nothing that was acknowledged: " .. store.name, function()
      system.with({ database = false, role = "runtime", env = store.env }, function(world)
        local ids, expected, refused = {}, {}, 0
        for i = 1, 10 do
          ids[i], expected[i] = crypto.uuid4(), { "start" }
          start(world, ids[i])
        end
        local function some(n)
          for i = 1, n do
            local mine = expected[i % #ids + 1]
            local name = "m" .. #mine .. "-" .. refused
            local ack = send(world, ids[i % #ids + 1], name, crypto.hex(crypto.random(LARGE)))
            if ack.ok then
              mine[#mine + 1] = name
            else
              assert.equal("INTERNAL_ERROR", ack.error.code, ack.error.message)
              refused = refused + 1
            end
          end
        end
        local function expect_all()
          for i, id in ipairs(ids) do assert.same(expected[i], (world:history(id))) end
        end
        some(20)
        move(world.data, world.data .. ".away")
        some(1200) -- a new segment, or a new file of the database, is due meanwhile
        move(world.data .. ".away", world.data)
        eventually(function()
          local before = refused
          some(1)
          return refused == before
        end, 10000, "acceptance")
        expect_all()
        world:disconnect()
        world:crash()
        world:serve({ MACP_STRICT_RECOVERY = "1" })
        expect_all()
        some(3)
        assert.is_nil(world.program:output():find("checkpoint.failed", 1, true))
        world:stop()
      end)
    end)
  end
end)
