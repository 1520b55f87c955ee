-- Several planes over one database: what one ingests is read and streamed by all, live, in order, once; what one loses
-- the others take over, and it cannot write to it any more.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local NEVER = 1e12

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("two planes over one database", function()
  local rig, owner, other, id

  -- Requests of the rig go to this plane.
  local function ask(plane) rig.plane = plane end

  setup(function()
    rig = plane_rig.start()
    owner = rig.plane
  end)
  teardown(function() rig:destroy() end)

  -- A run that `owner` has, and a second plane.
  local function start(env)
    id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    other = rig:start_plane(env)
  end

  -- From here on the other plane hears of events by notices only.
  local function without_looking()
    eventually(function() return other.follower.notices_since ~= nil end)
    eventually(function() return owner.lease.others == 1 end)
    other.follower.polled_at = NEVER
  end

  after_each(function()
    if owner.closed then owner = rig:start_plane() end
    ask(owner)
    other:close()
  end)

  it("P20: stream every event once and in order from the one that does not observe the run", function()
    start()
    without_looking()
    ask(other)
    local streams = {}
    for i = 1, 3 do streams[i] = rig:stream("/runs/" .. id .. "/stream?afterSeq=0") end
    eventually(function() return other.hub.count == 3 end)
    rig:propose(id, "p1")
    for i = 1, 100 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    for i = 4, 6 do streams[i] = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false") end
    for i = 1, 100 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    rig:commit(id)
    for i = 1, 6 do streams[i]:read_all() end
    assert.is_nil(other.owner:get("default", id))
    local expected = event_lists.seqs(rig:events(id))
    assert.is_true(#expected > 200)
    for i = 1, 6 do assert.same(expected, streams[i]:seqs()) end
    local _, state = rig:get("/runs/" .. id .. "/state")
    local last = streams[1].frames[#streams[1].frames]
    assert.equal("snapshot", last.event)
    assert.same(state, json.decode(last.data))
    eventually(function() return other.hub.count == 0 end)
    assert.is_nil(next(other.hub.topics))
  end)

  it("notify only of runs that somebody watches elsewhere, and lose nothing by that", function()
    start()
    without_looking()
    owner.announce.all_until = 0 -- as when the first seconds are over, in which everything is told
    local heard = {}
    local sub = assert(rig.db:listen("macp_stream_hub"))
    local listener = task.spawn(function()
      while true do
        local notice = sub:next()
        if notice == nil then return true end
        heard[#heard + 1] = notice.payload
      end
    end)
    local function heard_of_run()
      local marker = "last " .. #heard
      assert(rig.db:query("select pg_notify('macp_stream_hub', $1)", { marker }))
      eventually(function() return heard[#heard] == marker end)
      local count = 0
      for _, text in ipairs(heard) do
        if text:find("/" .. id .. ":", 1, true) then count = count + 1 end
      end
      return count
    end
    local run = owner.owner:get("default", id)
    local function stored() return run.committed_seq == run.seq end
    rig:propose(id, "p1")
    for i = 1, 10 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    eventually(function() return run.cursor == 12 and stored() end)
    assert.equal(0, heard_of_run())
    ask(other)
    local streams = {}
    for i = 1, 2 do -- they begin to watch while events are stored
      streams[i] = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
      for k = 1, 20 do rig:evaluate(id, k % 2 == 0 and "ann" or "bob", "p1") end
    end
    rig:commit(id)
    for i = 1, 2 do streams[i]:read_all() end
    assert.is_true(heard_of_run() > 0)
    local expected = event_lists.seqs(rig:events(id))
    for i = 1, 2 do assert.same(expected, streams[i]:seqs()) end
    sub:close()
    listener:join()
  end)

  it("deliver an event while the run goes on, with a snapshot after it", function()
    start()
    without_looking()
    ask(other)
    local stream = rig:stream("/runs/" .. id .. "/stream")
    stream:read_until(function(frames) return #frames >= 1 end)
    local topic = eventually(function()
      local found = other.hub.topics[id]
      return found and found.followed and found
    end)
    rig:propose(id, "p1")
    stream:read_until(function(frames)
      local last = frames[#frames]
      return last.event == "snapshot" and last.data:find('"p1"', 1, true) ~= nil
    end)
    assert.equal(topic.last_event_seq, stream:seqs()[#stream:seqs()])
    stream:close()
  end)

  it("answer the same about a run that goes on", function()
    start()
    rig:propose(id, "p1")
    for i = 1, 30 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    eventually(function() return #rig:events(id) >= 35 end)
    local paths = { "", "/state", "/metrics", "/events?limit=5000", "/messages", "/replay/state" }
    eventually(function()
      local differ
      for _, path in ipairs(paths) do
        ask(owner)
        local _, mine = rig:get("/runs/" .. id .. path)
        ask(other)
        local _, theirs = rig:get("/runs/" .. id .. path)
        if path == "" then mine.updatedAt, theirs.updatedAt = nil, nil end
        if json.canonical(mine) ~= json.canonical(theirs) then differ = path end
      end
      return differ == nil, differ
    end)
    assert.is_nil(other.owner:get("default", id))
    -- Not from a stored state that happens to be up to date: the state's row goes, the answer stays.
    local _, before = rig:get("/runs/" .. id .. "/state")
    rig:rows("delete from run_projections where run_id = $1", id)
    local _, after = rig:get("/runs/" .. id .. "/state")
    assert.same(before, after)
  end)

  it("lose nothing when the connection that listens is lost", function()
    start()
    without_looking()
    ask(other)
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
    eventually(function()
      local topic = other.hub.topics[id]
      return topic and topic.followed
    end)
    rig:propose(id, "p1")
    for i = 1, 10 do
      rig:rows([[select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%']])
      for _ = 1, 5 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    end
    rig:commit(id)
    stream:read_all()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
  end)

  it("find each other's events without notices, too", function()
    start({ STREAM_HUB_STRATEGY = "memory" })
    assert.is_nil(other.announce)
    ask(other)
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0")
    eventually(function()
      local topic = other.hub.topics[id]
      return topic and topic.followed
    end)
    rig:propose(id, "p1")
    stream:read_until(function(frames) return #frames > 0 and frames[#frames].data:find('"p1"', 1, true) ~= nil end)
    rig:vote(id, "ann", "p1")
    rig:commit(id)
    stream:read_all()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
  end)

  it("go on with a stream when the run changes its process in the middle", function()
    start()
    ask(other)
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
    eventually(function()
      local topic = other.hub.topics[id]
      return topic and topic.followed
    end)
    rig:propose(id, "p1")
    for i = 1, 20 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    owner:close()
    for i = 1, 20 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    eventually(function() return other.owner:get("default", id) end, 15000)
    rig:commit(id)
    stream:read_all()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
  end)

  it("let nobody write who has lost a run, and its reads are right again", function()
    start()
    rig:propose(id, "p1")
    local run = owner.owner:get("default", id)
    eventually(function() return run.committed_seq == run.seq and run.checkpoint_seq == run.seq end)
    ask(owner)
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
    stream:read_until(function(frames) return #frames >= 5 end)
    -- What a claim of the other process leaves when this one slept over its lease.
    rig:rows("update runs set lease_owner = $2 where id = $1", id, other.name)
    local before = rig:rows("select count(*) as n from run_events_canonical where run_id = $1", id)[1].n
    rig:vote(id, "ann", "p1")
    eventually(function() return owner.owner:get("default", id) == nil end)
    assert.equal("lost", run.gone)
    assert.equal(before, rig:rows("select count(*) as n from run_events_canonical where run_id = $1", id)[1].n)
    -- The other one goes on where the history ends, and the listeners of this one hear of it.
    assert(other.owner:adopt("default", id))
    rig:vote(id, "bob", "p1")
    rig:commit(id)
    stream:read_all()
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
    local raw = rig:rows([[select ordinal from run_events_raw where run_id = $1 and ordinal is not null
      order by seq]], id)
    for i, row in ipairs(raw) do assert.equal(i, row.ordinal) end
    assert.equal(5, #raw)
  end)

  it("give up in memory what others have taken, with the next renewal", function()
    start()
    local run = owner.owner:get("default", id)
    rig:propose(id, "p1")
    rig:vote(id, "ann", "p1")
    eventually(function() return run.committed_seq == run.seq and #rig:events(id) > 8 end)
    rig:rows("update runs set lease_owner = $2 where id = $1", id, other.name)
    assert.same({ id }, assert(owner.lease:lost(owner.owner.runs)))
    owner.owner:lose(id)
    assert.is_nil(owner.owner:get("default", id))
    assert.equal("lost", run.gone)
    assert(other.owner:adopt("default", id))
    ask(owner)
    rig:commit(id)
    rig:await(id, "completed")
  end)
end)

describe("a plane that is alone", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("notifies nobody", function()
    local heard = {}
    local sub = assert(rig.db:listen("macp_stream_hub"))
    local listener = task.spawn(function()
      while true do
        local notice = sub:next()
        if notice == nil then return true end
        if not notice.payload:find("^hello ") then heard[#heard + 1] = notice.payload end
      end
    end)
    rig:play(crypto.uuid4())
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed")
    assert(rig.db:query("select pg_notify('macp_stream_hub', 'last')"))
    eventually(function() return heard[#heard] == "last" end)
    assert.same({ "last" }, heard)
    sub:close()
    listener:join()
  end)
end)

describe("event streams of some types", function()
  local rig, id, events

  setup(function()
    rig = plane_rig.start()
    id = crypto.uuid4()
  end)
  teardown(function() rig:destroy() end)

  local function numbers(...)
    local wanted, out = {}, {}
    for _, name in ipairs({ ... }) do wanted[name] = true end
    for _, event in ipairs(events) do
      if wanted[event.type] then out[#out + 1] = event.seq end
    end
    return out
  end

  it("leave out the others, live and from the past", function()
    rig:open_session(id)
    rig:await(id, "running")
    local live = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&type=proposal.created,run.completed")
    local also = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&type=run.completed,%20proposal.created")
    local whole = rig:stream("/runs/" .. id .. "/stream?afterSeq=0")
    eventually(function() return rig.plane.hub.count == 3 end)
    rig:propose(id, "p1")
    rig:propose(id, "p2")
    rig:vote(id, "ann", "p1")
    rig:commit(id)
    live:read_all()
    also:read_all()
    whole:read_all()
    events = rig:events(id)
    local expected = numbers("proposal.created", "run.completed")
    assert.equal(3, #expected)
    assert.same(expected, live:seqs())
    assert.same(expected, also:seqs())
    assert.same(event_lists.seqs(events), whole:seqs())
    local past = rig:stream("/runs/" .. id .. "/stream?afterSeq=0&type=proposal.created")
    past:read_all()
    assert.same(numbers("proposal.created"), past:seqs())
    assert.equal("completed", json.decode(past.frames[1].data).run.status)
  end)

  it("are replayed in every mode", function()
    for _, mode in ipairs({ "instant", "step", "timed" }) do
      local began = sys.mono_ms()
      local stream = rig:stream("/runs/" .. id .. "/replay/stream?speed=1000&type=proposal.created,run.started&mode="
        .. mode)
      stream:read_all()
      assert.same(numbers("proposal.created", "run.started"), stream:seqs())
      assert.is_true(sys.mono_ms() - began < 20000)
    end
    local none = rig:stream("/runs/" .. id .. "/replay/stream?mode=instant&type=no.such")
    none:read_all()
    assert.same({}, none.frames)
  end)
end)
