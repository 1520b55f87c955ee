-- Words of the runs of a tenant: texts that are searched, each kept once (run_words). A search looks through the words, and
-- runs are found by the numbers of those that match (run_entries). Scenarios, sources, policies and tags are few beside runs;
-- where they are not, run_words_word_idx finds them.

local db_door = require("macp.store.db")

local MOST = 2000 -- words that match; beyond that many, runs are looked at one by one

local FIND = "select coalesce(array_agg(distinct term), '{}')::text as terms, count(*) as n from ("
  .. "select term from run_words where tenant = $1 and word ilike $2 limit $3) found"

-- A source is named as a whole.
local FIND_SCENARIO = "select coalesce(array_agg(distinct term), '{}')::text as terms, count(*) as n from ("
  .. "select run_term($1, 'source', $4) as term union all (select term from run_words where tenant = $1 "
  .. "and kind = 'scenario' and word ilike $2 limit $3)) found"

local ID_LENGTH = 36

local M = {}

-- The longest piece of a text that is part of one word, or of an id, if the text is found at all; nil: none tells anything.
local function piece_of(text)
  local longest = ""
  for piece in text:gmatch('[^"\\\n]+') do
    if #piece > #longest and piece:find("[^%[%], ]") then longest = piece end
  end
  return longest ~= "" and longest or nil
end

local function terms_of(row) return row.n <= MOST and row.terms end

---Adds what runs of a scenario or a search have terms of: `scenario_terms`, `search_terms` (arrays as text; false: too many
---words match), `search_id` (a piece of an id, nil: no id has it in it) and `is_rough`: what they find may lack the text
---that is searched. (yields)
---@param query { scenario_ref: string|nil, search: string|nil }
---@return table|nil query
---@return table|nil err
function M.resolve(db, tenant, query)
  if query.scenario_ref == nil and query.search == nil then return query end
  local resolved = {}
  if query.scenario_ref then
    local row, err = db_door.one(db, FIND_SCENARIO, tenant, db_door.contains(query.scenario_ref), MOST,
      query.scenario_ref)
    if not row then return nil, err end
    resolved.scenario_terms = terms_of(row)
  end
  if query.search then
    local piece = piece_of(query.search)
    resolved.search_terms, resolved.is_rough = false, piece ~= query.search
    if piece then
      local row, err = db_door.one(db, FIND, tenant, db_door.contains(piece), MOST + 1)
      if not row then return nil, err end
      resolved.search_terms = terms_of(row)
      resolved.search_id = #piece <= ID_LENGTH and not piece:find("[^%x-]") and piece or nil
    end
  end
  return setmetatable(resolved, { __index = query })
end

return M
