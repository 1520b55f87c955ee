-- Routes that modes bring along: where they are mounted, and how the document describes them.

local errors = require("macp.core.errors")
local mode_query = require("macp.plane.mode_query")

local check = errors.check

local RUN_SCOPE, MODE_SCOPE = "runs:read", "modes:read"
local ANY = { [200] = { description = "What the mode's script returns." } }

local M = {}

-- What the request's path has after its first `count` segments.
local function rest_of(path, count)
  return path:match("^" .. ("/+[^/]+"):rep(count) .. "(/.*)$") or "/"
end

-- An endpoint as an entry of the document. Endpoints of runs share their paths: each run has one mode.
local function described(entry, known)
  local route = entry.route
  local path = route.path == "/" and "" or route.path
  if route.scope == "run" then path = path:gsub(":id%f[^%w_]", ":itemId") end -- :id is the run's
  path = route.scope == "run" and "/runs/:id/mode" .. path or "/modes/" .. entry.mode .. path
  local line = entry.mode .. ": " .. (route.summary or "a read endpoint of the mode")
  local shared = known[path]
  if shared then
    shared.description = shared.description .. "\n- " .. line
    for name, property in pairs(mode_query.schema(route.query).properties) do
      shared.query.properties[name] = shared.query.properties[name] or property
    end
    shared.query.required = nil -- what one mode requires another does not know
    return nil
  end
  known[path] = { method = "GET", path = path, tag = "modes", returns = ANY, query = mode_query.schema(route.query),
    scope = route.scope == "run" and RUN_SCOPE or MODE_SCOPE, summary = route.summary or "Read endpoint of a mode",
    description = "From the mode's routes.lua.\n- " .. line }
  return known[path]
end

---@param plane { mode_routes: macp.plane.ModeRoutes }
function M.routes(plane)
  local function of_run(ctx)
    local reply = check(plane.mode_routes:of_run(ctx, ctx.params.id, rest_of(ctx.req.path, 3)))
    return reply.status, reply.body
  end

  local function of_mode(ctx)
    local reply = check(plane.mode_routes:of_mode(ctx, ctx.params.mode, rest_of(ctx.req.path, 2)))
    return reply.status, reply.body
  end

  local routes = {}
  for _, path in ipairs({ "/runs/:id/mode", "/runs/:id/mode/*path" }) do
    routes[#routes + 1] = { method = "GET", path = path, scope = RUN_SCOPE, hidden = true, returns = ANY,
      tag = "modes", summary = "A read endpoint of the run's mode", handler = of_run }
  end
  for _, path in ipairs({ "/modes/:mode", "/modes/:mode/*path" }) do
    routes[#routes + 1] = { method = "GET", path = path, scope = MODE_SCOPE, hidden = true, returns = ANY,
      tag = "modes", summary = "A read endpoint of a mode", handler = of_mode }
  end
  return routes
end

---The modes' endpoints for the document: the tables of routes, without handlers.
---@param plane { mode_routes: macp.plane.ModeRoutes }
function M.documented(plane)
  local out, known = {}, {}
  for _, entry in ipairs(plane.mode_routes:list()) do out[#out + 1] = described(entry, known) end
  return out
end

return M
