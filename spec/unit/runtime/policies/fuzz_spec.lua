-- Whatever JSON somebody registers, for whatever mode: it is refused with problems or it is taken, in bounded time, and
-- what is taken can be stored, bound to a session and evaluated. Seeds: spec/fuzz/corpus/policy. TEST_SEED=N repeats
-- a run.

local fs = require("host.fs")

local descriptor = require("macp.runtime.policies.descriptor")
local json = require("macp.core.json")
local modes_registry = require("macp.modes.registry")
local policies = require("macp.runtime.policies")
local store = require("macp.runtime.policies.store")
local support = require("spec.support.modes")
local utf8 = require("macp.core.utf8")

local CORPUS = "spec/fuzz/corpus/policy"
local SEED = require("spec.support.seed")
local ROUNDS = 400
local MUTATIONS = 60 -- per seed file
local MAX_MS = 1000 -- of the processor for one registration, with sanitizers

-- Park and Miller: the same numbers everywhere.
local function random_of(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

local KEYS = { "", ".", "a.b", "_x", "$x", "__index", "1", "voting.threshold", "commitment", "require_vote_quorum",
  "designated_roles", "é\1\127", ("k"):rep(300), "constructor", "\\\"" }
local NUMBERS = { 0, -0, 1, -1, 0.5, 1e300, -1e300, 1e-320, 2 ^ 53, 2 ^ 63, 100, 100.5, 86400001, 0.30000000000000004 }
local WORDS = { "", " ", "majority", "count", "percentage", "initiator_only", "designated_role", "weighted", "n_of_m",
  "x\ny", ("w"):rep(500), "ann", "Ä" }

local function pick(random, list) return list[random(#list)] end

local function any_value(random, depth)
  local kind = random(depth > 5 and 5 or 8)
  if kind == 1 then return random(2) == 1 end
  if kind == 2 then return json.null end
  if kind == 3 then return pick(random, NUMBERS) end
  if kind <= 5 then return pick(random, WORDS) end
  local out, n = {}, random(4) - 1
  if kind == 6 then
    for i = 1, n do out[i] = any_value(random, depth + 1) end
    return json.array(out)
  end
  for _ = 1, n do out[pick(random, KEYS)] = any_value(random, depth + 1) end
  return json.object(out)
end

-- A value that a rule may well take.
local function near_value(random, rule)
  if random(8) == 1 then return any_value(random, 0) end
  if rule.one_of then return pick(random, rule.one_of) end
  if rule.type == "boolean" then return random(2) == 1 end
  if rule.type == "strings" then return json.array({ pick(random, { "ann", "bob", "judge" }) }) end
  if rule.type == "map" then return { ann = random(5), bob = pick(random, NUMBERS) } end
  if rule.type == "string" then return pick(random, WORDS) end
  return random(3) == 1 and pick(random, NUMBERS) or random(100) / (rule.type == "integer" and 1 or 100)
end

local function near_rules(random, rules)
  local tree = json.object({})
  for _, rule in ipairs(rules) do
    if random(3) == 1 then
      local at = tree
      local parts = {}
      for part in rule.path:gmatch("[^%.]+") do parts[#parts + 1] = part end
      for i = 1, #parts - 1 do
        if type(at[parts[i]]) ~= "table" then at[parts[i]] = json.object({}) end
        at = at[parts[i]]
      end
      at[parts[#parts]] = near_value(random, rule)
    end
  end
  if random(6) == 1 then tree[pick(random, KEYS)] = any_value(random, 0) end
  return tree
end

-- Cuts, doubles, swaps and overwrites bytes.
local function mutated(random, text)
  for _ = 1, random(4) do
    local at, kind = random(#text), random(4)
    local head, tail = text:sub(1, at - 1), text:sub(at + 1)
    if kind == 1 then
      text = head .. tail
    elseif kind == 2 then
      text = head .. text:sub(at, at + random(20)) .. text:sub(at)
    elseif kind == 3 then
      text = head .. string.char(random(256) - 1) .. tail
    else
      text = head .. pick(random, { "null", "[]", "{}", '"x"', "1e400", "-1", ":", "," }) .. tail
    end
    if text == "" then text = " " end
  end
  return text
end

describe("policies of any kind (TEST_SEED=" .. SEED .. ")", function()
  local modes, dir, places

  setup(function()
    modes = modes_registry.new({ depth = "validate" })
    assert(modes:load_all())
    dir = assert(fs.temp_dir("macp-policy-fuzz-"))
    places = store.new(dir)
  end)
  teardown(function()
    modes:close()
    fs.remove_tree(dir)
  end)

  -- What is taken: one session of the mode under it, and both commitments.
  local function use(policy, rev)
    local key, taken = "fuzz", { policy_id = policy.policy_id, mode = policy.mode, rules = policy.rules,
      schema_version = policy.schema_version }
    local start = support.start({ policy = taken, policy_version = policy.policy_id,
      participants = { "ann", "bob", "cy" } })
    local began, refusal = rev:start(key, start)
    assert(began or not refusal.author_error, refusal and refusal.message)
    if not began then return end
    if rev.id == "macp.mode.decision.v1" then -- so that a commitment gets as far as the policy
      local function send(by, name, payload)
        assert(rev:submit(key, name, by, support.encode(rev, name, payload), 1))
      end
      send("ann", "Proposal", { proposal_id = "p", option = "x" })
      send("ann", "Vote", { proposal_id = "p", vote = "APPROVE" })
      send("bob", "Vote", { proposal_id = "p", vote = "REJECT" })
    end
    for _, action in ipairs({ "x.completed", "x.declined" }) do
      local payload = support.commitment(rev, { action = action, outcome_positive = action == "x.completed" })
      local verdict, rejection = rev:submit(key, "Commitment", "ann", payload, 5)
      assert(verdict or not rejection.faulty, rejection and rejection.message)
      assert.is_string(rev:explain(key))
    end
    rev:drop(key)
  end

  -- Registers rules as text for one mode, and checks everything that is promised.
  local function try(text, mode, version, id)
    local registry = policies.new({ modes = modes, store = places, now_ms = function() return 1 end })
    registry.tombstones["policy.fuzz.buried"] = "of another meaning"
    local before, began = registry.version, os.clock()
    local policy, problems = descriptor.of_message({ policy_id = id, mode = mode, description = "", rules = text,
      schema_version = version })
    local why
    if policy then
      local ok, reason = registry:register(policy)
      why = not ok and reason or nil
    else
      why = table.concat(problems, "; ")
    end
    assert((os.clock() - began) * 1000 < MAX_MS, "it took long: " .. text)
    if why then
      assert(why ~= "" and utf8.is_text(why) and not why:find("%c") and #why < 16384, why)
      assert.equal(before, registry.version)
      return false
    end
    assert.equal(before + 1, registry.version)
    assert.equal(registry:fingerprint(policy), registry:fingerprint(assert(descriptor.of_message(
      descriptor.to_message(policy)))))
    for _, found in ipairs(modes:list()) do
      if mode == "*" or mode == found.mode then use(policy, modes:get(found.mode)) end
    end
    return true
  end

  local function targets()
    local list = { "*", "ext.unheard.v1" }
    for _, found in ipairs(modes:list()) do list[#list + 1] = found.mode end
    return list
  end

  it("are refused with problems or usable, made near to valid ones", function()
    local random, list, taken = random_of(SEED), targets(), 0
    for round = 1, ROUNDS do
      local mode = list[round % #list + 1]
      local rev = modes:get(mode) or modes:get(list[random(#list - 2) + 2])
      local text = json.encode(near_rules(random, rev.policy.list))
      local id = random(8) == 1 and "policy.fuzz.buried" or "policy.fuzz.near" .. round
      if try(text, mode, random(3), id) then taken = taken + 1 end
    end
    assert.is_true(taken > ROUNDS / 20, taken .. " were taken")
  end)

  it("are refused with problems or usable, made of anything", function()
    local random, list = random_of(SEED + 1), targets()
    for round = 1, ROUNDS do
      local value = any_value(random, 0)
      local id = random(8) == 1 and "policy.std.majority" or "policy.fuzz.any" .. round
      try(json.encode(value), list[random(#list)], random(5) - 1, id)
    end
  end)

  it("are refused with problems or usable, made of damaged text", function()
    local random, list, count = random_of(SEED + 2), targets(), 0
    for _, entry in ipairs(assert(fs.list(CORPUS))) do
      local text = assert(fs.read(CORPUS .. "/" .. entry.name))
      for _, mode in ipairs(list) do try(text, mode, 3, "policy.fuzz.seed") end
      for _ = 1, MUTATIONS do
        count = count + 1
        try(mutated(random, text), list[random(#list)], 3, "policy.fuzz.text" .. count)
      end
    end
    assert.is_true(count >= 8 * MUTATIONS)
  end)

  it("come back from the store as they were", function()
    local found = assert(places:load())
    assert.same({}, found.problems)
    assert.is_true(#found.policies > 0)
  end)
end)
