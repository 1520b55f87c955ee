-- Docs: Markdown about a mode, made from its table: authority, payloads, refusals, outcomes, rules.

local describe = require("macp.modes.describe")

local M = {}

local function cell(text)
  return (tostring(text):gsub("|", "\\|"):gsub("\n", " "))
end

local function shown(value)
  if type(value) == "table" then
    return next(value) == nil and "empty" or table.concat(value, ", ")
  end
  return value == "" and '""' or tostring(value)
end

local function constraints(field)
  local out = {}
  local function add(text) out[#out + 1] = text end
  if field.required then add("required") end
  if field.default ~= nil then add("default " .. shown(field.default)) end
  if field.upper then add("folded to upper case") end
  if field.lower then add("folded to lower case") end
  if field.one_of then add("one of " .. table.concat(field.one_of, ", ")) end
  if field.min then add(string.format("at least %.14g", field.min)) end
  if field.max then add(string.format("at most %.14g", field.max)) end
  if field.new then add("must be new in `" .. field.new .. "`") end
  if field.ref then add("must exist in `" .. field.ref .. "`") end
  return table.concat(out, "; ")
end

local function kind_of(field)
  if field.map then return "map<string, " .. field.type .. ">" end
  return (field.repeated and "repeated " or "") .. field.type
end

local function authority(out, model)
  out[#out + 1] = "## Who may send what\n"
  out[#out + 1] = "| Message | From | What it does |"
  out[#out + 1] = "|---|---|---|"
  for _, message in ipairs(model.messages) do
    out[#out + 1] = string.format("| `%s` | %s | %s |", message.type,
      table.concat(describe.roles(message.from), ", "), cell(message.doc or ""))
  end
  out[#out + 1] = string.format("| `Commitment` | %s | Resolves the session. |",
    table.concat(describe.roles(model.commitment.from), ", "))
end

local function refusals(out, message)
  if #message.needs == 0 then return end
  out[#out + 1] = "\nRefused unless, in this order:\n"
  out[#out + 1] = "| # | Rule | Code |"
  out[#out + 1] = "|---|---|---|"
  for i, need in ipairs(message.needs) do
    out[#out + 1] = string.format("| %d | %s | `%s` |", i, cell(need.text), need.code)
  end
end

local function payload(out, message)
  if #message.fields == 0 then
    out[#out + 1] = "No payload."
    return
  end
  out[#out + 1] = "| # | Field | Type | Constraints |"
  out[#out + 1] = "|---|---|---|---|"
  for _, field in ipairs(message.fields) do
    out[#out + 1] = string.format("| %d | `%s` | %s | %s |", field.number, field.name, kind_of(field),
      cell(constraints(field)))
  end
end

local function outcomes(out, model)
  out[#out + 1] = "\n## Outcomes\n"
  out[#out + 1] = "| Action | Polarity | Ready |"
  out[#out + 1] = "|---|---|---|"
  for _, outcome in ipairs(model.outcomes) do
    local polarity = outcome.positive == nil and "either" or outcome.positive and "positive" or "negative"
    out[#out + 1] = string.format("| `%s` | %s | %s |", outcome.action, polarity,
      cell(outcome.doc or outcome.when and "when its condition holds" or "always"))
  end
end

local function domain(rule)
  local out = {}
  if rule.one_of then out[#out + 1] = table.concat(rule.one_of, ", ") end
  local old = {}
  for name in pairs(rule.alias or {}) do old[#old + 1] = name end
  table.sort(old)
  for _, name in ipairs(old) do out[#out + 1] = name .. " means " .. rule.alias[name] end
  if rule.unset ~= nil then out[#out + 1] = tostring(rule.unset) .. " means absent" end
  if rule.min then out[#out + 1] = string.format("at least %.14g", rule.min) end
  if rule.over then out[#out + 1] = string.format("above %.14g", rule.over) end
  if rule.max then out[#out + 1] = string.format("at most %.14g", rule.max) end
  if rule.requires then
    out[#out + 1] = string.format("required when %s is %s", rule.requires[1], tostring(rule.requires[2]))
  end
  return table.concat(out, "; ")
end

local function policy(out, model)
  if not model.policy.rules then return end
  out[#out + 1] = "\n## Policy rules\n"
  out[#out + 1] = "| Rule | Type | Default | Allowed | Meaning |"
  out[#out + 1] = "|---|---|---|---|---|"
  for _, rule in ipairs(model.policy.rules) do
    out[#out + 1] = string.format("| `%s` | %s | %s | %s | %s |", rule.path, rule.type,
      rule.default == nil and "" or cell(shown(rule.default)), cell(domain(rule)), cell(rule.doc or ""))
  end
end

local function participants(model)
  local limits, out = model.participants, {}
  out[#out + 1] = string.format("at least %d, at most %d", limits.min, limits.max)
  if limits.others > 0 then out[#out + 1] = limits.others .. " besides the initiator" end
  if limits.initiator ~= "optional" then out[#out + 1] = "the initiator is " .. limits.initiator end
  return table.concat(out, "; ")
end

---Markdown for a revision.
---@param rev macp.modes.Revision
function M.render(rev)
  local model = rev.model
  local out = { "# " .. model.title, "", model.summary, "", "| | |", "|---|---|", "| Mode | `" .. model.id .. "` |",
    "| Version | `" .. model.version .. "` |", "| Revision | `" .. rev.hash .. "` |",
    "| Determinism | " .. model.determinism .. " |", "| Participants | " .. model.participants.model .. ", "
      .. participants(model) .. " |", "" }
  authority(out, model)
  out[#out + 1] = "\n## Messages"
  for _, message in ipairs(model.messages) do
    out[#out + 1] = "\n### " .. message.type .. "\n"
    if message.doc then out[#out + 1] = message.doc .. "\n" end
    payload(out, message)
    refusals(out, message)
  end
  outcomes(out, model)
  if #model.timers > 0 then
    out[#out + 1] = "\n## Timers\n"
    for _, timer in ipairs(model.timers) do
      out[#out + 1] = string.format("- `%s`: message ids begin with `%s:`", timer.name, timer.prefix)
    end
  end
  policy(out, model)
  return table.concat(out, "\n") .. "\n"
end

return M
