-- The read endpoints of modes (routes.lua): found by the path that is left, run in the mode's isolate with bounded time
-- and size. The folder's file as it is now answers, so that a changed one serves from the next request on.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local router = require("macp.http.router")
local mode_asks = require("macp.plane.mode_asks")
local mode_query = require("macp.plane.mode_query")
local tables = require("macp.core.tables")

local MAX_BODY_BYTES = 1048576
local COMMITS = 3      -- how often a reader of a busy run waits for a commit before the stored state answers
local EARLY_MS = 20    -- a timer counts from the loop's clock, which may be behind by one turn
local KNOWN = tables.set(errors.codes())

---@class macp.plane.ModeRoutes
local ModeRoutes = {}
ModeRoutes.__index = ModeRoutes

local M = {}

---@param deps { registry: table, owner: table, reader: macp.plane.Reader, runs: macp.plane.Runs, plane: table,
---  timeout_ms: integer, redactor: macp.plane.Redactor|false|nil }
function M.new(deps)
  deps.compiled = setmetatable({}, { __mode = "k" }) -- list of routes -> { run = router, mode = router }
  return setmetatable(deps, ModeRoutes)
end

local function compile(list)
  local found = { run = router.new(), mode = router.new() }
  for _, route in ipairs(list) do
    found[route.scope]:add({ method = "GET", path = route.path, index = route.index,
      read_query = mode_query.reader(route.query) })
  end
  return found
end

-- The endpoint of a revision for a path: { index, read_query } and its parameters, or nil.
local function match(self, rev, scope, path)
  local list = rev:routes()
  local compiled = self.compiled[list]
  if compiled == nil then
    compiled = compile(list)
    self.compiled[list] = compiled
  end
  local route, params = compiled[scope]:match("GET", path)
  return route, route and params
end

local function unknown(ctx)
  return errors.new("NOT_FOUND", nil, "Cannot " .. ctx.req.method .. " " .. ctx.req.path)
end

local function broken(rev, reason)
  log.error("mode.route_failed", { mode = rev.id, revision = rev.hash, message = reason })
  return errors.new("INTERNAL_ERROR", nil, reason)
end

-- What a handler said, as a reply.
local function reply_of(rev, status, body)
  if status % 1 ~= 0 or status < 200 or status > 499 or (status > 299 and status < 400) or status == 204 then
    return nil, broken(rev, "a route answered with the status " .. status)
  end
  if #body > MAX_BODY_BYTES then
    return nil, broken(rev, string.format("a route answered with %d bytes, %d are allowed", #body, MAX_BODY_BYTES))
  end
  return { status = status, body = body }
end

local function refusal_of(rev, err)
  if err.code == "LIMIT" then return broken(rev, err.message) end
  if err.code == "INTERNAL_ERROR" then
    return broken(rev, err.file and string.format("%s: %s:%s", err.message, err.file, err.line) or err.message)
  end
  if KNOWN[err.code] then return errors.new(err.code, nil, err.message ~= "" and err.message or nil) end
  return errors.new("VALIDATION_ERROR", { modeCode = err.code }, err.message ~= "" and err.message or err.code)
end

-- Runs the endpoint for a path. (yields)
---@return { status: integer, body: string }|nil; nil, err with code UNAVAILABLE when the session left memory
local function answer(self, ctx, rev, key, scope, path, perform, asked)
  local route, params = match(self, rev, scope, path)
  if route == nil then return nil, unknown(ctx) end
  local query, problems = route.read_query(ctx.query)
  if query == nil then return nil, errors.validation(problems) end
  local status, body = rev:route(key, route.index, { params = params, query = query }, perform)
  if asked.failure then return nil, asked.failure end
  if status then return reply_of(rev, status, body) end
  if body.code == "UNAVAILABLE" then return nil, body end
  return nil, refusal_of(rev, body)
end

-- Runs fn within the time that an endpoint has: what it waits for fails then, and it ends by itself. (yields)
local function bounded(self, fn, ...)
  local began = sys.mono_ms()
  local value, err = task.with_deadline(self.timeout_ms, fn, ...)
  if value == nil and sys.mono_ms() - began >= self.timeout_ms - EARLY_MS then
    return nil, errors.new("SERVICE_UNAVAILABLE", nil,
      string.format("the mode's route did not answer within %d ms", self.timeout_ms))
  end
  return value, err
end

-- true when everything that the run's state holds is stored. (yields)
local function is_stored(run)
  for _ = 1, COMMITS do
    if run.gone then return false end
    if run.committed_seq == run.seq then return true end
    run.writer:include(run)
    local ok = run.writer.committed:wait(1000)
    if not ok then return false end
  end
  return not run.gone and run.committed_seq == run.seq
end

-- The endpoint over the state in memory; UNAVAILABLE when the stored state has to answer. (yields)
local function from_memory(self, ctx, run, path, perform, asked)
  if not (run.rev and run.rev_started) or not is_stored(run) then return nil, { code = "UNAVAILABLE" } end
  local rev = run.rev
  self.registry:pin(rev) -- the run may leave memory while the script waits for an answer
  local value, err = answer(self, ctx, rev, run.rev_key, "run", path, function(op, args)
    local found, problem = perform(op, args)
    is_stored(run) -- the script runs again, over the state as it is then
    return found, problem
  end, asked)
  self.registry:unpin(rev)
  return value, err
end

-- (yields)
local function run_answer(self, ctx, run_id, path)
  local known, err = self.runs:require(ctx.tenant, run_id)
  if not known then return nil, err end
  local perform, asked = mode_asks.of(self.plane, ctx)
  local live = self.owner:get(ctx.tenant, run_id)
  if live then
    local value, problem = from_memory(self, ctx, live, path, perform, asked)
    if value or problem.code ~= "UNAVAILABLE" then return value, problem end
  end
  local value, problem = self.reader:with_mode(ctx.tenant, run_id, function(rev, key)
    return answer(self, ctx, rev, key, "run", path, perform, asked)
  end)
  if value == false then return nil, errors.new("NOT_FOUND", nil, "no mode reads run " .. run_id) end
  return value, problem
end

-- Scripts see what was received: what they say of it is redacted here. (yields)
local function redacted(self, value, err)
  local redactor = self.redactor
  if not redactor then return value, err end
  if value then
    value.body = redactor:any(value.body)
  elseif type(err.message) == "string" then
    err.message = redactor:text(err.message)
  end
  return value, err
end

---Answers GET /runs/:id/mode/<path>. (yields)
---@param path string what is left of the path, beginning with a slash
---@return { status: integer, body: string }|nil
---@return macp.Error|nil err
function ModeRoutes:of_run(ctx, run_id, path)
  return redacted(self, bounded(self, run_answer, self, ctx, run_id, path))
end

-- (yields)
local function mode_answer(self, ctx, mode_id, path)
  local rev = self.registry:get(mode_id)
  if rev == nil then return nil, errors.new("NOT_FOUND", nil, "no mode " .. mode_id .. " is loaded") end
  self.registry:pin(rev)
  local value, err = answer(self, ctx, rev, nil, "mode", path, mode_asks.of(self.plane, ctx))
  self.registry:unpin(rev)
  return value, err
end

---Answers GET /modes/<mode id>/<path>. (yields)
---@return { status: integer, body: string }|nil
---@return macp.Error|nil err
function ModeRoutes:of_mode(ctx, mode_id, path)
  return redacted(self, bounded(self, mode_answer, self, ctx, mode_id, path))
end

---The endpoints that serve now: { mode, route } each, modes in the order of the registry's list.
function ModeRoutes:list()
  local out = {}
  for _, entry in ipairs(self.registry:entries()) do
    local rev = self.registry:get(entry.id)
    for _, route in ipairs(rev and rev:routes() or {}) do out[#out + 1] = { mode = entry.id, route = route } end
  end
  return out
end

return M
