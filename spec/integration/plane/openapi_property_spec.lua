-- What GET /docs-json says is true: thousands of requests made from the document, right and wrong ones, each answered
-- as it says. TEST_SEED=N repeats a run, TEST_REQUESTS=N sets how many (20 000; with a sanitizer 2 000).

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local openapi_answers = require("spec.support.openapi_answers")
local openapi_requests = require("spec.support.openapi_requests")
local plane_rig = require("spec.support.plane_rig")
local system = require("spec.support.system")

local SEED = require("spec.support.seed")
local REQUESTS = tonumber(sys.env("TEST_REQUESTS")) or (system.is_slow and 2000 or 20000)
local IN_FLIGHT = 16
local PART = 1000     -- requests of one test
local SHOWN = 12      -- problems in the message of a failure
local STREAM_MS = 40  -- how long a stream is listened to
local KEY, ORIGIN = "property-key", "http://localhost:3000"

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

-- Reads a stream for a while: it need not end.
local function listen(reply)
  local parts = {}
  task.with_deadline(STREAM_MS, function()
    while true do
      local chunk = reply:read()
      if chunk == nil then return true end
      parts[#parts + 1] = tostring(chunk)
    end
  end)
  reply:close()
  return table.concat(parts)
end

-- (yields)
local function ask(url, request)
  local opts = { url = url .. request.path, method = request.method, headers = request.headers, body = request.body,
    max_body_bytes = 64 * 1024 * 1024, timeout_ms = 60000 }
  if request.op and request.op.path:find("/stream$") then
    local reply, err = fetch.open(opts)
    if reply == nil then return nil, err end
    return { status = reply.status, headers = reply.headers, text = listen(reply) }
  end
  local reply, err = fetch.request(opts)
  if reply == nil then return nil, err end
  return { status = reply.status, headers = reply.headers, text = tostring(reply.body or "") }
end

-- Runs, hooks and deliveries of earlier answers are what later requests name.
local function learn(pools, request, reply)
  if reply.status < 200 or reply.status > 299 or request.method ~= "POST" then return end
  local value = json.decode(reply.text)
  if type(value) ~= "table" then return end
  local function add(name, item)
    local pool = pools[name]
    if item and pool then pool[#pool < 40 and #pool + 1 or 1 + request.n % 40] = item end
  end
  if value.runId and value.traceId and pools.id then
    add("id", value.runId)
    add("runs.id", value.runId)
  elseif request.op and request.op.path == "/webhooks" then
    add("webhooks.id", value.id)
  end
end

-- Plays sessions of several kinds and attaches what requests can name.
local function seeded(rig)
  local auth = { authorization = "Bearer " .. KEY }
  local function post(path, body) return select(2, rig:post(path, body, auth)) end
  local done, live, aside = crypto.uuid4(), crypto.uuid4(), crypto.uuid4()
  rig:play(done)
  for _, id in ipairs({ live, aside }) do
    rig:open_session(id)
    rig:propose(id, "p1")
    rig:evaluate(id, "bob", "p1")
  end
  for id, status in pairs({ [done] = "completed", [live] = "running", [aside] = "running" }) do
    eventually(function()
      local code, run = rig:get("/runs/" .. id, auth)
      return code == 200 and run.status == status
    end, 20000, "a run that is " .. status)
  end
  post("/runs/" .. aside .. "/suspend", {})
  post("/runs/" .. done .. "/artifacts", { kind = "json", label = "numbers", inline = { a = 1 } })
  post("/runs/" .. done .. "/artifacts", { kind = "log", label = "lines", uri = "https://example.org/x" })
  local hook = post("/webhooks", { url = "https://example.org/hook", secret = ("s"):rep(20) })
  post("/runtime/policies", { policyId = "policy.spec", mode = "*", description = "one of the spec", rules = {} })
  local more = post("/runs", plane_rig.descriptor(crypto.uuid4()))
  return {
    id = { done, live, aside, more.runId }, ["runs.id"] = { done, done, live, aside, more.runId },
    runId = { done, live }, leftRunId = { done, live }, rightRunId = { done, live },
    ["webhooks.id"] = { hook.id }, deliveryId = { crypto.uuid4() }, policyId = { "policy.spec", "policy.default" },
    mode = { "macp.mode.decision.v1", "live", "sandbox", "timed" }, modeName = { "macp.mode.decision.v1", "ext.none" },
    kind = { "rust", "grpc" }, sessionId = { crypto.uuid4(), crypto.uuid4() },
    type = { "proposal.created", "run.created,proposal.created" }, key = {},
    action = { "run.created", "run.deleted" }, actor = { "plane" }, tag = { "alpha", "beta" }, tags = { "alpha" },
  }
end

-- One of a kind is told: the same operation and the same words but for values.
local function note(problems, request, problem)
  local words = problem:gsub("= .- (%l)", "%1", 1):gsub("%d+", "0")
  local kind = (request.op and request.op.method .. request.op.path or request.kind) .. words
  if problems[kind] then return end
  problems[kind] = true
  problems[#problems + 1] = openapi_requests.told(request) .. "\n    -> " .. problem
end

-- Sends requests first to last, several in flight; the problems that were found. (yields)
local function play(rig, requests, first, last, opts)
  local problems, next_one, document = {}, first - 1, requests.document
  local function work()
    while next_one < last and #problems < SHOWN do
      next_one = next_one + 1
      local request = requests:make(next_one)
      local reply, err = ask(rig.plane.url, request)
      local problem = reply == nil and "no answer: " .. err.message or
        openapi_answers.problem(document, request, reply, opts)
      if problem then note(problems, request, problem) end
      if reply then
        opts.statuses[reply.status] = (opts.statuses[reply.status] or 0) + 1
        learn(requests.pools, request, reply)
      end
    end
    return true
  end
  local tasks = {}
  for i = 1, IN_FLIGHT do tasks[i] = task.spawn(work) end
  for _, worker in ipairs(tasks) do assert(worker:join()) end
  return problems
end

local function told(problems) return #problems .. " problems\n" .. table.concat(problems, "\n") end

local function document_of(rig) return select(2, rig:get("/docs-json")) end

describe("the OpenAPI document (TEST_SEED=" .. SEED .. ") is true of", function()
  local rig, requests
  local opts = { origin = ORIGIN, statuses = {} }

  setup(function()
    rig = plane_rig.start({ env = { AUTH_API_KEYS = KEY, SESSION_POLL_TIMEOUT_MS = "1000" } })
    requests = openapi_requests.new(document_of(rig), SEED, { pools = seeded(rig), key = KEY })
  end)
  teardown(function() rig:destroy() end)

  for first = 1, REQUESTS, PART do
    local last = math.min(first + PART - 1, REQUESTS)
    it("generated requests " .. first .. " to " .. last, function()
      local problems = play(rig, requests, first, last, opts)
      assert(#problems == 0, told(problems))
    end)
  end

  local with_many = REQUESTS >= 10000 and it or pending
  with_many("all kinds of answers", function()
    for _, status in ipairs({ 200, 201, 202, 204, 400, 401, 404, 409, 410, 413, 415 }) do
      assert(opts.statuses[status], "no request was answered with " .. status)
    end
  end)
end)

describe("the OpenAPI document (TEST_SEED=" .. SEED .. "), while no runtime is there, is true of", function()
  it("1000 generated requests", function()
    local rig = plane_rig.start({ env = { AUTH_API_KEYS = KEY, SESSION_POLL_TIMEOUT_MS = "1000" },
      address = "127.0.0.1:1" })
    local auth = { authorization = "Bearer " .. KEY }
    local _, run = rig:post("/runs", plane_rig.descriptor(crypto.uuid4()), auth)
    local _, hook = rig:post("/webhooks", { url = "https://example.org/hook", secret = ("s"):rep(20) }, auth)
    local pools = { id = { run.runId }, ["webhooks.id"] = { hook.id }, ["runs.id"] = { run.runId },
      mode = { "macp.mode.decision.v1" } }
    local requests = openapi_requests.new(document_of(rig), SEED, { pools = pools, key = KEY })
    local problems = play(rig, requests, 1, 1000, { origin = ORIGIN, statuses = {}, away = true })
    rig:destroy()
    assert(#problems == 0, told(problems))
  end)
end)
