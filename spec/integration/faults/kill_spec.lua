-- kill -9 of the program and of PostgreSQL at random points under load: what was acknowledged is there, in order, once;
-- the plane's history is the runtime's; projections are what their events add up to.
-- TEST_SEED=N repeats the rounds of a run, TEST_LONG=1 makes ten times as many.

local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local agreement = require("spec.support.agreement")
local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local system = require("spec.support.system")

local ROUNDS = tonumber(sys.env("KILL_ROUNDS")) or (sys.env("TEST_LONG") == "1" and 500)
  or (system.is_slow and 15 or 50)
local SEED = require("spec.support.seed")
local PER_TEST = system.is_slow and 3 or 5
local SESSIONS = 4
local SENDERS = { "ann", "bob" }
local LIFE = 6 -- rounds after which a session is ended and another takes its place
local QUOTA = 60 -- messages of one sender in one round
local CATCH_UP_MS = 20000

-- What dies, each of these within any six rounds: mostly the program, often the database, at times both.
local VICTIMS = { "program", "program", "program", "server", "backend", "both" }

---@class Book what one session's senders know
---@field id string
---@field acknowledged table<string, string[]> by sender, in their order
---@field pending table<string, string> by sender: sent, not answered
---@field numbers table<string, integer>

local function new_book(id)
  return { id = id, acknowledged = { ann = {}, bob = {} }, pending = {}, numbers = { ann = 0, bob = 0 }, age = 0,
    checked = {} }
end

local function session_id(dice)
  local digits = {}
  for i = 1, 32 do digits[i] = string.format("%x", dice(16) - 1) end
  digits[13], digits[17] = "4", "8"
  local text = table.concat(digits)
  return table.concat({ text:sub(1, 8), text:sub(9, 12), text:sub(13, 16), text:sub(17, 20), text:sub(21) }, "-")
end

local function proposal(name)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
end

-- Sends a message until it is answered; the same id again is a duplicate at most. false: no answer. (yields)
local function deliver(rig, sender, envelope)
  local response, err = rig:call(sender, "Send", { envelope = envelope })
  if response == nil then
    assert(err.code == "RPC", err.message)
    return false
  end
  local failure = response.ack.error
  if failure and failure.code == "INTERNAL_ERROR" then return false end
  assert(response.ack.ok, failure and failure.code .. " " .. failure.message)
  return true
end

-- One sender of one session, until nobody answers or its quota is used up. (yields)
local function send_all(rig, book, sender)
  for _ = 1, QUOTA do
    local name = book.pending[sender]
    if name == nil then
      book.numbers[sender] = book.numbers[sender] + 1
      name = sender .. "-" .. book.numbers[sender]
      book.pending[sender] = name
    end
    local envelope = client.envelope({ session_id = book.id, message_id = name, payload = proposal(name) })
    if not deliver(rig, sender, envelope) then return true end
    local mine = book.acknowledged[sender]
    mine[#mine + 1], book.pending[sender] = name, nil
  end
  return true
end

-- The initiator opens the session, then the senders talk. (yields)
local function converse(rig, book)
  if not book.opened then
    if not deliver(rig, "boss", client.start_envelope(book.id, { ttl_ms = 3600000 })) then return true end
    book.opened = true
  end
  return task.group(function(group)
    for _, sender in ipairs(SENDERS) do group:spawn(send_all, rig, book, sender) end
  end)
end

-- --- what must hold ---

-- Every acknowledged message once and in its sender's order; besides them only what was in flight.
local function check_history(book, ids, senders)
  local seen, at = {}, { ann = 0, bob = 0 }
  assert(ids[1] == "start", "the history begins with " .. tostring(ids[1]))
  for i = 2, #ids do
    local name, sender = ids[i], senders[i]
    assert(not seen[name], name .. " is there twice")
    seen[name] = true
    at[sender] = at[sender] + 1
    local expected = book.acknowledged[sender][at[sender]]
    local in_flight = expected == nil and name == book.pending[sender]
    assert(name == expected or in_flight,
      string.format("%s: position %d of %s is %s, not %s", book.id, at[sender], sender, name, tostring(expected)))
  end
  for _, sender in ipairs(SENDERS) do
    local missing = book.acknowledged[sender][at[sender] + 1]
    assert(missing == nil, string.format("%s: %s was acknowledged and is not there", book.id, tostring(missing)))
  end
end

-- After each round: all histories, and the stored copy of one session in turn. (yields)
local function check_round(world, books, round)
  for i, book in ipairs(books) do
    if book.opened then
      local ids, senders = world:history(book.id)
      check_history(book, ids, senders)
      agreement.await(world, book.id, #ids, CATCH_UP_MS)
      if i == round % #books + 1 then agreement.stored(world, book.id, ids) end
    end
  end
end

-- Checks made when nothing comes any more: the mode's state from the first event on, too. (yields)
local function check_finally(world, book)
  local ids, senders = world:history(book.id)
  check_history(book, ids, senders)
  agreement.await(world, book.id, #ids, CATCH_UP_MS)
  agreement.projection(world, book.id)
  agreement.stored(world, book.id, ids)
  world:rows("delete from run_projection_checkpoints where tenant = 'default' and run_id = $1", book.id)
  local _, state = world:get("/runs/" .. book.id .. "/state")
  world:rows("delete from run_projections where tenant = 'default' and run_id = $1", book.id)
  local status, again = world:get("/runs/" .. book.id .. "/replay/state")
  assert(status == 200 and json.canonical(state) == json.canonical(again), book.id .. ": not what a fresh fold gives")
end

-- Delivers what is in flight, ends the session and checks everything about it. (yields)
local function retire(world, book)
  local rig = world:client()
  if not book.opened then
    assert(deliver(rig, "boss", client.start_envelope(book.id, { ttl_ms = 3600000 })))
    book.opened = true
  end
  for _, sender in ipairs(SENDERS) do
    local name = book.pending[sender]
    if name then
      local envelope = client.envelope({ session_id = book.id, message_id = name, payload = proposal(name) })
      assert(deliver(rig, sender, envelope))
      table.insert(book.acknowledged[sender], name)
      book.pending[sender] = nil
    end
  end
  local ids = world:history(book.id)
  agreement.await(world, book.id, #ids, CATCH_UP_MS)
  assert(rig:call("boss", "CancelSession", { session_id = book.id, reason = "enough" }).ack.ok)
  eventually(function()
    local status, run = world:get("/runs/" .. book.id)
    return status == 200 and run.status == "cancelled", run and run.status
  end, CATCH_UP_MS, "end of run " .. book.id)
  check_finally(world, book)
end

-- --- the rounds ---

local crash = {}

function crash.program(world)
  world:crash()
  return function() world:serve() end
end

function crash.server(world, dice)
  world:crash_database()
  task.sleep(dice(100))
  return function() world:start_database() end
end

function crash.backend(world, dice)
  world:crash_backend(dice)
  return function() end
end

function crash.both(world, dice)
  if dice(2) == 1 then
    world:crash_database()
    world:crash()
  else
    world:crash()
    world:crash_database()
  end
  return function()
    world:start_database()
    world:serve()
  end
end

local function play_round(world, books, dice, victim)
  local rig = world:client()
  local talks = {}
  for i, book in ipairs(books) do talks[i] = task.spawn(converse, rig, book) end
  task.sleep(dice(151) - 1)
  local repair = crash[victim](world, dice)
  for _, talk in ipairs(talks) do assert(talk:join()) end
  repair()
  world:disconnect()
  eventually(function() return world:get("/readyz") == 200 end, CATCH_UP_MS, "readiness")
end

describe("kill -9 under load (TEST_SEED=" .. SEED .. ")", function()
  local world, books, dice, is_sound
  local deck = {}

  setup(function()
    dice, books, is_sound = system.dice(SEED), {}, true
    world = system.start({ env = { MACP_CHECKPOINT_INTERVAL = "16" } })
    for i = 1, SESSIONS do
      books[i] = new_book(session_id(dice))
      books[i].age = i
    end
  end)

  teardown(function() world:close() end)

  local function play(round)
    if #deck == 0 then deck = { unpack(VICTIMS) } end
    play_round(world, books, dice, table.remove(deck, dice(#deck)))
    check_round(world, books, round)
    for i, book in ipairs(books) do
      book.age = book.age + 1
      if book.age >= LIFE or round == ROUNDS then
        retire(world, book)
        books[i] = new_book(session_id(dice))
      end
    end
  end

  for first = 1, ROUNDS, PER_TEST do
    local last = math.min(first + PER_TEST - 1, ROUNDS)
    it(string.format("loses, repeats and reorders nothing: rounds %d to %d", first, last), function()
      assert(is_sound, "an earlier round failed")
      is_sound = false
      for round = first, last do play(round) end
      is_sound = true
    end)
  end

  it("lets the program end in order afterwards", function()
    assert(is_sound, "an earlier round failed")
    world:stop()
  end)
end)
