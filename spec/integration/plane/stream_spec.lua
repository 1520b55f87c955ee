-- The event stream of a run: what clients receive equals what is stored, whenever they come and however slow they are.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local long_run = require("spec.support.long_run")
local plane_rig = require("spec.support.plane_rig")

local function named(frames, name)
  local out = {}
  for _, frame in ipairs(frames) do
    if frame.event == name then out[#out + 1] = frame end
  end
  return out
end

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("the stream of a run", function()
  local rig, run_id, session_id

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  before_each(function()
    session_id = crypto.uuid4()
    rig:open_session(session_id)
    run_id = session_id
    rig:await(run_id, "running")
  end)

  it("makes room for a newer one when as many are open as may be", function()
    local crowded = rig:start_plane({ STREAM_MAX_PER_RUN = "2" })
    local own = rig.plane
    rig.plane = crowded
    local streams = {}
    for i = 1, 3 do
      streams[i] = rig:stream("/runs/" .. run_id .. "/stream", { accept = "text/event-stream" })
      streams[i]:read_until(function(frames) return #frames >= 1 end)
    end
    rig.plane = own
    local frames = streams[1]:read_all()
    assert.same({ true, "error", "a newer stream took the place of this one: its run has 2 open" },
      { streams[1].ended, frames[#frames].event, frames[#frames].data })
    assert.is_false(streams[2].ended)
    for _, stream in ipairs(streams) do stream:close() end
    crowded:close()
  end)

  it("begins with a snapshot and headers that keep proxies from buffering", function()
    local stream = rig:stream("/runs/" .. run_id .. "/stream")
    stream:read_until(function(frames) return #frames >= 1 end)
    assert.equal(200, stream.status)
    assert.equal("text/event-stream", stream.headers["content-type"])
    assert.equal("no", stream.headers["x-accel-buffering"])
    assert.equal("keep-alive", stream.headers["connection"])
    local first = stream.frames[1]
    assert.equal("snapshot", first.event)
    local state = json.decode(first.data)
    assert.equal(run_id, state.run.runId)
    assert.equal(tostring(state.timeline.latestSeq), first.id)
    stream:close()
  end)

  it("P22: sends every event once, byte for byte as stored, then a last snapshot, then ends", function()
    local stream = rig:stream("/runs/" .. run_id .. "/stream?afterSeq=0")
    -- The stream begins with the state of that moment: had the run ended by then, that would be its last snapshot.
    stream:read_until(function(frames) return #frames >= 1 end)
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:vote(session_id, "bob", "p1")
    rig:commit(session_id)
    stream:read_all()
    local events = rig:events(run_id)
    assert.same(event_lists.seqs(events), stream:seqs())
    local rows = rig:rows([[select document from run_events_canonical where tenant = 'default' and run_id = $1
      order by seq]], run_id)
    for i, frame in ipairs(named(stream.frames, "canonical_event")) do assert.equal(rows[i].document, frame.data) end
    local last = stream.frames[#stream.frames]
    assert.equal("snapshot", last.event)
    assert.equal("completed", json.decode(last.data).run.status)
    local _, state = rig:get("/runs/" .. run_id .. "/state")
    assert.same(state, json.decode(last.data))
  end)

  it("P16: resumes after Last-Event-ID, and afterSeq wins over it", function()
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:commit(session_id)
    rig:await(run_id, "completed")
    local all = event_lists.seqs(rig:events(run_id))
    for _, cut in ipairs({ 1, 4, #all - 1, #all }) do
      local stream = rig:stream("/runs/" .. run_id .. "/stream?includeSnapshot=false",
        { ["last-event-id"] = tostring(all[cut]) })
      stream:read_all()
      assert.same({ unpack(all, cut + 1) }, stream:seqs())
    end
    local stream = rig:stream("/runs/" .. run_id .. "/stream?includeSnapshot=false&afterSeq=" .. all[3],
      { ["last-event-id"] = tostring(all[6]) })
    stream:read_all()
    assert.same({ unpack(all, 4) }, stream:seqs())
    stream = rig:stream("/runs/" .. run_id .. "/stream?includeSnapshot=false", { ["last-event-id"] = "junk" })
    stream:read_all()
    assert.same(all, stream:seqs())
  end)

  it("P16: stays open after the end when asked to follow, and only events count in its ids", function()
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    rig:commit(session_id)
    rig:await(run_id, "completed")
    local stream = rig:stream("/runs/" .. run_id .. "/stream?follow=true&heartbeatMs=1000&afterSeq=0")
    stream:read_until(function(frames) return #named(frames, "heartbeat") >= 1 end)
    assert.is_false(stream.ended)
    assert.same(event_lists.seqs(rig:events(run_id)), stream:seqs())
    assert.equal(1, #named(stream.frames, "snapshot"))
    assert.truthy(json.decode(named(stream.frames, "heartbeat")[1].data).ts)
    -- A browser names the last id when it comes back: neither a heartbeat nor a snapshot before the backlog may say that
    -- the backlog has arrived.
    assert.is_nil(named(stream.frames, "heartbeat")[1].id)
    assert.is_nil(named(stream.frames, "snapshot")[1].id)
    stream:close()
  end)

  it("P15: sends snapshots of a busy run at most every 250 ms, and always one after the last change", function()
    local stream = rig:stream("/runs/" .. run_id .. "/stream?afterSeq=0")
    local began = sys.mono_ms()
    rig:propose(session_id, "p1")
    for i = 1, 60 do
      rig:evaluate(session_id, i % 2 == 0 and "ann" or "bob", "p1")
      task.sleep(10)
    end
    local latest = rig:events(run_id)
    latest = latest[#latest].seq
    stream:read_until(function(frames)
      local last = named(frames, "snapshot")
      last = last[#last]
      return last and json.decode(last.data).timeline.latestSeq == latest
    end)
    local count = #named(stream.frames, "snapshot")
    local most = math.ceil((sys.mono_ms() - began) / 250) + 2 -- the first one and the one after the end
    assert.is_true(count >= 2 and count <= most, "snapshots: " .. count .. ", at most " .. most)
    stream:close()
  end)

  it("sends the last snapshot once, also when one was due at that moment", function()
    local descriptor = plane_rig.descriptor(crypto.uuid4())
    descriptor.session.metadata = { cancellationDelegated = true }
    local announced = select(2, rig:post("/runs", descriptor)).runId
    rig:open_session(descriptor.session.sessionId)
    rig:await(announced, "running")
    local stream = rig:stream("/runs/" .. announced .. "/stream")
    stream:read_until(function(frames) return #frames >= 1 end)
    local topic = rig.plane.hub.topics[announced]
    eventually(function() return topic.subscribers[1].live and not topic.snapshot_due and not topic.snapshot_wanted end)
    topic.snapshot_wanted, topic.run.wants_render = true, true -- as if the 250 ms since the one before had just passed
    assert.equal(200, (rig:post("/runs/" .. announced .. "/cancel?force=true")))
    local frames = stream:read_all()
    local last, before = frames[#frames], frames[#frames - 1]
    assert.same({ "snapshot", "cancelled" }, { last.event, json.decode(last.data).run.status })
    assert.is_not.same({ before.event, before.id }, { last.event, last.id })
  end)

  it("loses nothing for a reader that is too slow for the live tail", function()
    local stream = rig:stream("/runs/" .. run_id .. "/stream?afterSeq=0&includeSnapshot=false")
    rig:propose(session_id, "p1")
    local long = ("x"):rep(20000)
    for i = 1, 200 do rig:evaluate(session_id, i % 2 == 0 and "ann" or "bob", "p1", long) end -- nobody reads
    rig:commit(session_id)
    rig:await(run_id, "completed", 10000)
    stream:read_all()
    assert.is_nil(stream.failure)
    assert.same(event_lists.seqs(rig:events(run_id)), stream:seqs())
  end)

  it("P21: serves many at once the same, and forgets those who left", function()
    local streams = {}
    for i = 1, 50 do streams[i] = rig:stream("/runs/" .. run_id .. "/stream?afterSeq=0") end
    eventually(function() return rig.plane.hub.count == 50 end)
    for i = 1, 10 do streams[i]:close() end
    rig:propose(session_id, "p1")
    rig:vote(session_id, "ann", "p1")
    eventually(function() return rig.plane.hub.count == 40 end)
    rig:commit(session_id)
    rig:await(run_id, "completed")
    local expected = event_lists.seqs(rig:events(run_id))
    for i = 11, 50 do
      streams[i]:read_all()
      assert.same(expected, streams[i]:seqs())
    end
    eventually(function() return rig.plane.hub.count == 0 end)
    assert.is_nil(next(rig.plane.hub.topics))
  end)

  it("tells its clients when the program ends", function()
    local env = { HOST = "127.0.0.1" }
    local second = rig:start_plane(env)
    local first = rig.plane
    rig.plane = second
    local stream = rig:stream("/runs/" .. run_id .. "/stream?includeSnapshot=false")
    rig.plane = first
    eventually(function() return second.hub.count == 1 end)
    second:close()
    stream:read_all()
    assert.equal("shutdown", stream.frames[#stream.frames].event)
  end)
end)

describe("a long history", function()
  local COUNT = 3000
  local rig, id

  setup(function()
    rig = plane_rig.start()
    id = long_run.insert(rig.db, COUNT, 1000)
  end)
  teardown(function() rig:destroy() end)

  it("is not sent whole to a stream that resumes nowhere: it begins with the newest 500 events", function()
    local newest, all = {}, {}
    for i = 1, COUNT do all[i] = i * 2 end
    for i = COUNT - 499, COUNT do newest[#newest + 1] = i * 2 end
    local function seqs(query, headers)
      local stream = rig:stream("/runs/" .. id .. "/stream?includeSnapshot=false" .. query, headers)
      stream:read_all()
      assert.is_nil(stream.failure)
      return stream:seqs()
    end
    assert.same(newest, seqs("&afterSeq=0"))
    assert.same(newest, seqs("", { ["last-event-id"] = "0" }))
    assert.same({ unpack(all, 2) }, seqs("&afterSeq=2")) -- who resumes loses nothing
    assert.same({}, seqs(""))
  end)

  it("is listed piece by piece, whatever its size", function()
    local status, events = rig:get("/runs/" .. id .. "/events?limit=5000")
    assert.equal(200, status)
    local rows = rig:rows("select seq, document from run_events_canonical where run_id = $1 order by seq", id)
    assert.equal(COUNT, #events)
    for i, row in ipairs(rows) do assert.same(json.decode(row.document), events[i]) end
    for _, case in ipairs({ { "limit=2999", 1, 2999 }, { "limit=1500&afterSeq=2000", 1001, 2500 },
      { "afterSeq=" .. COUNT * 2, 1, 0 }, { "limit=3", 1, 3 } }) do
      local expected, got = {}, {}
      for i = case[2], case[3] do expected[#expected + 1] = i * 2 end
      for i, event in ipairs(select(2, rig:get("/runs/" .. id .. "/events?" .. case[1]))) do got[i] = event.seq end
      assert.same(expected, got)
    end
  end)
end)

describe("replay", function()
  local rig, run_id, events

  setup(function()
    rig = plane_rig.start()
    run_id = crypto.uuid4()
    rig:play(run_id)
    rig:await(run_id, "completed")
    events = rig:events(run_id)
  end)
  teardown(function() rig:destroy() end)

  it("is described by URLs that work as they are", function()
    local status, described = rig:post("/runs/" .. run_id .. "/replay", { mode = "instant", speed = 2, fromSeq = 3 })
    assert.equal(200, status)
    local stream = rig:stream(described.streamUrl)
    stream:read_all()
    assert.equal(events[#events].seq, stream:seqs()[#stream:seqs()])
    assert.is_true(stream:seqs()[1] >= 3)
    local code, state = rig:get(described.stateUrl)
    assert.same({ 200, "completed" }, { code, state.run.status })
    for _, body in ipairs({ { speed = 1e300 }, { speed = 0.1, toSeq = 1 }, { fromSeq = 2 ^ 53, toSeq = 2 ^ 53 } }) do
      status, described = rig:post("/runs/" .. run_id .. "/replay", body)
      assert.equal(200, status)
      stream = rig:stream(described.streamUrl)
      stream:read_all()
      assert.equal(200, stream.status, described.streamUrl)
    end
  end)

  it("sends a range at once, in order, with the numbers as ids", function()
    local from, to = events[3].seq, events[8].seq
    local stream = rig:stream("/runs/" .. run_id .. "/replay/stream?mode=step&fromSeq=" .. from .. "&toSeq=" .. to)
    stream:read_all()
    local expected = {}
    for i = 3, 8 do expected[#expected + 1] = events[i].seq end
    assert.same(expected, stream:seqs())
  end)

  it("P17: takes numbers from the query, and keeps the rhythm of the events, divided by the speed", function()
    rig:rows([[update run_events_canonical set ts = to_timestamp(0) + seq * interval '40 s'
      where tenant = 'default' and run_id = $1]], run_id)
    local began = sys.mono_ms()
    local stream = rig:stream("/runs/" .. run_id .. "/replay/stream?mode=timed&speed=400&fromSeq=1&toSeq=3")
    stream:read_all()
    local took = sys.mono_ms() - began
    assert.is_true(took >= 195 and took < 20000, "took " .. took)
  end)

  it("shows the state as it was at a number", function()
    local status, state = rig:get("/runs/" .. run_id .. "/replay/state?seq=" .. events[6].seq)
    assert.equal(200, status)
    assert.equal("running", state.run.status)
    assert.equal(events[6].seq, state.timeline.latestSeq)
    local whole_status, whole = rig:get("/runs/" .. run_id .. "/replay/state")
    local _, current = rig:get("/runs/" .. run_id .. "/state")
    assert.equal(200, whole_status)
    assert.same(current, whole)
  end)
end)
