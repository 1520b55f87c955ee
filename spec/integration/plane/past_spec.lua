-- The state of a run at any sequence number: what is remembered and stored on the way changes no answer.

local crypto = require("host.crypto")
local task = require("host.task")

local json = require("macp.core.json")
local history = require("macp.plane.history")
local past_reader = require("macp.plane.past_reader")
local projection = require("macp.plane.projection.state")
local snapshot = require("macp.plane.snapshot")

local projections_store = require("macp.store.projections")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local ENVELOPES = 420 -- three numbers each: several steps
local ASKED = 24

describe("the state at a sequence number", function()
  local rig, id, last

  -- Waits until so many events are stored. (yields)
  local function await_stored(count)
    eventually(function()
      local row = rig:rows("select max(seq) as seq from run_events_canonical where run_id = $1", id)[1]
      return (row.seq or 0) >= count
    end, 20000)
  end

  setup(function()
    rig = plane_rig.start({ runtime_env = { MACP_MESSAGE_LIMIT_PER_MINUTE = "100000" } })
    id = crypto.uuid4()
    rig:open_session(id)
    rig:propose(id, "p1")
    for sent = 1, ENVELOPES, 30 do
      assert(task.group(function(group)
        for i = sent, sent + 29 do
          group:spawn(function() rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1", "reason " .. i) end)
        end
      end))
      await_stored(sent) -- a plane that lags behind writes more at once, and stores fewer states on the way
    end
    rig:vote(id, "ann", "p1")
    rig:commit(id)
    rig:await(id, "completed", 20000)
    last = rig:rows("select max(seq) as seq from run_events_canonical where run_id = $1", id)[1].seq
  end)

  teardown(function() rig:destroy() end)

  -- A reader that remembers nothing; without stored states it folds everything each time.
  local function reader(past_bytes)
    local plane = rig.plane
    return past_reader.new({ db = plane.db, registry = plane.registry, redactor = plane.redactor,
      past_bytes = past_bytes, runs = plane.runs, aside = function(work) task.spawn(work) end })
  end

  local function canonical(text) return json.canonical(assert(json.decode(text))) end

  it("is stored on the way, that of the mode less often", function()
    local rows = rig:rows([[select seq, mode_state is not null as has_mode, octet_length(document) as bytes
      from run_projection_checkpoints where run_id = $1 order by seq]], id)
    local with_mode, before = 0, 0
    assert.is_true(#rows >= 1 and #rows <= last / 500)
    for _, row in ipairs(rows) do
      assert.is_true(row.seq - before >= 500)
      before = row.seq
      if row.has_mode then with_mode = with_mode + 1 end
    end
    assert.is_true(with_mode >= 1 and with_mode <= last / 1000)
    local bare, fold, read = reader(0), history.fold, nil
    history.fold = function(db, tenant, run_id, from, to, ...)
      read = to - from
      return fold(db, tenant, run_id, from, to, ...)
    end
    assert(bare:state_at("default", id, rows[1].seq + 3))
    history.fold = fold
    assert.equal(3, read)
  end)

  it("is that of a fold of everything, wherever it is asked for and whatever was asked before", function()
    local warm, bare, texts = rig.plane.past, reader(0), {}
    math.randomseed(7)
    local asked = { 1, 2, last - 1, last, last + 100 }
    while #asked < ASKED do asked[#asked + 1] = math.random(1, last) end
    for _, seq in ipairs(asked) do texts[seq] = canonical((assert(warm:state_at("default", id, seq)))) end
    assert.is_true(#warm.states:of("default/" .. id, warm.states.runs:get("default/" .. id).reading).mode >= 2)
    rig:rows("delete from run_projection_checkpoints where run_id = $1", id)
    for _, seq in ipairs(asked) do
      assert.equal(texts[seq], canonical((assert(bare:state_at("default", id, seq)))), "at " .. seq)
      assert.equal(texts[seq], canonical((assert(warm:state_at("default", id, seq)))), "again at " .. seq)
      local fresh = projection.new(id)
      assert(history.fold(rig.plane.db, "default", id, 0, seq, fresh))
      local state = json.decode(texts[seq])
      state.mode = nil
      assert.equal(canonical(projection.render(fresh)), json.canonical(state), "host part at " .. seq)
    end
  end)

  it("is /state when no number or the last one is asked for", function()
    local _, now = rig:get("/runs/" .. id .. "/state")
    for _, query in ipairs({ "", "?seq=" .. last }) do
      local status, state = rig:get("/runs/" .. id .. "/replay/state" .. query)
      assert.equal(200, status)
      assert.equal(json.canonical(now), json.canonical(state))
    end
  end)

  it("P44: reads no more than a step of events once the run was looked at", function()
    local cold = reader(67108864)
    assert(cold:state_at("default", id, last - 1))
    local fold, read = history.fold, {}
    history.fold = function(db, tenant, run_id, from, to, ...)
      read[#read + 1] = to - from
      return fold(db, tenant, run_id, from, to, ...)
    end
    for seq = last, 1, -97 do assert(cold:state_at("default", id, seq)) end
    history.fold = fold
    for _, numbers in ipairs(read) do assert.is_true(numbers <= 500, numbers) end
  end)

  it("P44: knows by one step where a history ends, however long it is", function()
    local db, asked = rig.plane.db, nil
    db.query = function(self, text, params) -- its class has the real one
      if text:find("as tail", 1, true) then asked = { text, params } end
      return getmetatable(self).__index.query(self, text, params)
    end
    assert(reader(0):state_at("default", id, 5))
    db.query = nil
    local lines = assert(db:query("explain (analyze) " .. asked[1], asked[2])).rows
    assert.is_true(#lines > 5)
    for _, line in ipairs(lines) do
      local rows = tonumber(line["QUERY PLAN"]:match("actual time=.- rows=(%d+)"))
      assert.is_true(rows == nil or rows <= 1, line["QUERY PLAN"])
    end
  end)

  it("is stored in as many bytes as a run may have: the longer it is, the further apart", function()
    local limit, first = 400000, 10000000
    local run = { tenant = "default", id = id, seq = first, state = projection.new(id), rev_started = true,
      milestone_seq = first, mode_milestone_seq = first, host_bytes = 0, mode_bytes = 0, milestone_bytes = 0,
      milestone_stride = 1, writer = { owner = { milestone_bytes = limit } },
      rev = { encode = function() return ("x"):rep(10000) end } }
    local unit = { own = function() end, add = function(_, text, ...)
      assert(rig.plane.db:query(text, { n = select("#", ...), ... }))
    end }
    local largest, seqs = 0, {}
    while run.seq < first + 200000 do
      run.seq = run.seq + 50
      if snapshot.milestone_is_due(run) then
        snapshot.add_milestone(unit, run)
        local kept = assert(projections_store.checkpoint_bytes(rig.plane.db, "default", id)).bytes
        assert.is_true(kept <= limit * 1.2, kept)
        largest = math.max(largest, kept)
      end
    end
    local rows = rig:rows([[select seq, mode_state is not null as has_mode from run_projection_checkpoints
      where run_id = $1 and seq > $2 order by seq]], id, first)
    for i, row in ipairs(rows) do seqs[i] = row.seq end
    local before, widest = first, 0
    for _, seq in ipairs(seqs) do
      widest, before = math.max(widest, seq - before), seq
    end
    rig:rows("delete from run_projection_checkpoints where run_id = $1 and seq > $2", id, first)
    assert.is_true(largest > limit / 2 and run.milestone_stride >= 4)
    assert.is_true(#rows > 10 and seqs[#seqs] == run.milestone_seq)
    assert.is_true(widest <= 500 * run.milestone_stride * 3, widest)
  end)

  it("of a live run is asked for while it goes on", function()
    local live = crypto.uuid4()
    rig:open_session(live)
    rig:await(live, "running")
    rig:propose(live, "p1")
    for i = 1, 6 do
      rig:evaluate(live, "ann", "p1")
      local run = rig.plane.owner:get("default", live)
      eventually(function() return run.cursor == i + 2 and run.committed_seq == run.seq end, 5000, "it is stored")
      local _, now = rig:get("/runs/" .. live .. "/state")
      local _, past = rig:get("/runs/" .. live .. "/replay/state?seq=" .. run.seq)
      assert.equal(json.canonical(now), json.canonical(past))
    end
  end)
end)
