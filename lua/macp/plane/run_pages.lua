-- Pages of the list of runs. The total is exact; of more than 10000 runs it is counted at most every few seconds and then
-- given to whoever asks for the same filter, because counting costs as much as there are runs. What is looked for within
-- texts or tags takes long to count if there is much of it: until it is counted the total is an estimate, unless the exact
-- one is asked for.

local json = require("macp.core.json")
local shared_answer = require("macp.core.shared_answer")
local time = require("macp.core.time")

local run_list = require("macp.store.run_list")

local FRESH_MS = 5000
local FRESH_SEARCHED_MS = 60000 -- for as long it may take to count what is looked for within texts
local USABLE_MS = 600000 -- a total this old is given once more while the next one is counted

---@class macp.plane.RunPages
local RunPages = {}
RunPages.__index = RunPages

local M = {}

---@param deps { db: table, supervisor: macp.Supervisor }
function M.new(deps)
  local supervisor = deps.supervisor
  local renewal = { until_ms = USABLE_MS, start = function(work)
    supervisor:start("runs.count", work, { restart = "never" })
  end }
  return setmetatable({
    db = deps.db, totals = shared_answer.new(FRESH_MS, renewal),
    searched = shared_answer.new(FRESH_SEARCHED_MS, renewal),
  }, RunPages)
end

-- The tags of a comma list as JSON text, nil when there are none.
local function tags_of(text)
  local tags = json.array({})
  for tag in (text or ""):gmatch("[^,]+") do
    tag = tag:match("^%s*(.-)%s*$")
    if tag ~= "" then tags[#tags + 1] = tag end
  end
  return #tags > 0 and json.encode(tags) or nil
end

local FILTERS = { "status", "tags", "created_after_ms", "created_before_ms", "environment", "scenario_ref", "mode_name",
  "search" }

-- The filter as text: same text, same total.
local function key_of(tenant, asked)
  local parts = { tenant, asked.include_sandbox and "sandbox" or "", asked.include_archived and "archived" or "" }
  for _, name in ipairs(FILTERS) do
    parts[#parts + 1] = asked[name] and (name .. "=" .. asked[name]) or ""
  end
  return table.concat(parts, "\0")
end

---Rows of a page, and how many runs there are in all. (yields)
---@param query table checked query parameters of GET /runs
---@return { rows: table[], total: integer, is_estimate: boolean|nil }|nil
---@return table|nil err
function RunPages:get(tenant, query)
  local asked = {
    status = query.status, tags = tags_of(query.tags), limit = query.limit, offset = query.offset,
    sort_by = query.sortBy, sort_order = query.sortOrder,
    created_after_ms = query.createdAfter and time.parse_iso(query.createdAfter),
    created_before_ms = query.createdBefore and time.parse_iso(query.createdBefore),
    include_sandbox = query.includeSandbox == "true", include_archived = query.includeArchived == "true",
    environment = query.environment, scenario_ref = query.scenarioRef, search = query.search,
    mode_name = query.modeName,
  }
  local page, err = run_list.page(self.db, tenant, asked)
  if page == nil or page.total then return page, err end
  local function count() return run_list.count(self.db, tenant, asked) end
  if page.estimate and not query.exactTotal then
    page.total = self.searched:peek(key_of(tenant, asked), count)
    if page.total then return page end
    page.total, page.is_estimate = page.estimate, true
    return page
  end
  page.total, err = self.totals:get(key_of(tenant, asked), count)
  if page.total == nil then return nil, err end
  return page
end

return M
