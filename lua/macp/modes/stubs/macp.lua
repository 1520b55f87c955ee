-- Types for editors: completion and hover in mode folders. Point your Lua language server's library at the folder of
-- this file. Never loaded by the program.
---@meta macp

---@class macp.Context read-only
---@field initiator string
---@field participants string[] in declared order
---@field n integer number of participants
---@field is_participant fun(name: string): boolean
---@field rules table resolved policy rules, defaults filled in
---@field schema_version integer
---@field policy_id string
---@field mode_version string
---@field configuration_version string
---@field intent string
---@field roots { uri: string, name: string }[]
---@field ttl_ms integer
---@field t integer session time in ms
---@field seq integer ordinal of the current message (SessionStart is 1); message functions only
---@field synthetic boolean emitted by a timer; message functions only
---@field context_id string|nil presentation files only
---@field extensions table|nil presentation files only
---@field message_id string|nil presentation files only
---@field time string|nil ISO time of the observed message; presentation files only
---@field extra table|nil what reduce has folded; presentation files only

---@alias macp.Role "participant"|"initiator"|"committer"|"runtime"|"anyone"
---@alias macp.Need { [1]: string, [2]: fun(s: table, p: table, by: string, c: macp.Context): boolean, string?, [3]: string? }

---@class macp.Message
---@field from macp.Role|macp.Role[]
---@field payload string|nil proto3 field list
---@field encoding "proto"|"json"|"json|proto"|"raw"|nil
---@field needs macp.Need[]|nil decide, change nothing
---@field apply fun(s: table, p: table, by: string, c: macp.Context)|nil records, refuses nothing
---@field doc string|nil

---@class macp.Timer
---@field prefix string|nil of the message ids; "timer:<name>"
---@field due fun(s: table, c: macp.Context): integer|nil|false session time in ms
---@field emit fun(s: table, c: macp.Context): { type: string, sender: string, payload: table, key: string }

---@class macp.Decision
---@field positive boolean
---@field action string
---@field by string
---@field deny fun(format: string, ...) refuses the commitment with a reason
---@field allow fun(format: string, ...) a reason in favour, for the record

---@class macp.Rule
---@field type "boolean"|"integer"|"number"|"string"|"strings"|"map"
---@field default any
---@field min number|nil
---@field max number|nil
---@field over number|nil exclusive minimum
---@field one_of string[]|nil
---@field nonempty boolean|nil
---@field alias table<string, string>|nil old names of values, tolerated with a warning
---@field unset any value that is read as if the rule were absent, tolerated with a warning
---@field requires { [1]: string, [2]: any }|nil
---@field cases table[]|nil { path, value, min =, over =, max =, required = }
---@field inert_without { [1]: string, [2]: any }|nil
---@field since integer|nil schema version
---@field caution table|nil { text, below = version, except = value, unless = { path, value }|nil }
---@field doc string|nil

---@class macp.Mode
---@field template table|nil descriptor of a registered mode; stands for id, version, title, summary and determinism
---@field id string
---@field version string
---@field title string
---@field summary string
---@field api integer|nil
---@field package string|nil
---@field participants { model: string?, min: integer?, max: integer?, others: integer?, initiator: string? }|nil
---@field determinism "structural-only"|"semantic-deterministic"|"context-frozen"|"non-deterministic"
---@field state table|fun(c: macp.Context): table
---@field messages table<string, macp.Message>
---@field timers table<string, macp.Timer>|nil
---@field outcomes { action: string, positive: boolean?, doc: string?, when: (fun(s: table, c: macp.Context): boolean)? }[]
---@field policy { rules: table<string, macp.Rule>?, evaluate: (fun(s: table, d: macp.Decision, c: macp.Context))? }|nil
---@field result (fun(s: table, c: macp.Context): any)|nil
---@field strict_actions boolean|nil
---@field invariants { [1]: string, [2]: fun(s: table, c: macp.Context): boolean }[]|nil
---@field schema_uris table<string, string>|nil

---@class macp.Kit
local macp = {}

---How many values; with a predicate how many pass.
---@param t table
---@param fn? fun(value: any, key: any): any
---@return integer
function macp.count(t, fn) end

---@param fn fun(value: any, key: any): any
---@return boolean
function macp.any(t, fn) end

---@param fn fun(value: any, key: any): any
---@return boolean
function macp.all(t, fn) end

---The first value that passes, and its key.
---@param fn fun(value: any, key: any): any
function macp.find(t, fn) end

---@param fn? fun(value: any, key: any): number
---@return number
function macp.sum(t, fn) end

---The value with the highest score, its key and the score; the first in key order wins a tie.
---@param fn fun(value: any, key: any): number
function macp.max_by(t, fn) end

---@param fn fun(value: any, key: any): number
function macp.min_by(t, fn) end

---@param fn fun(value: any, key: any): any
---@return table
function macp.map(t, fn) end

---@param fn fun(value: any, key: any): any
---@return table
function macp.filter(t, fn) end

---@return any[]
function macp.keys(t) end

---@return any[]
function macp.values(t) end

---@return boolean
function macp.contains(t, value) end

---@return boolean
function macp.empty(t) end

---A deep copy.
function macp.copy(value) end

---Marks a list so that JSON shows [] even when it is empty.
---@generic T
---@param list T[]
---@return T[]
function macp.array(list) end

---Exact text of a whole number.
---@return string
function macp.int(n) end

---@param digits? integer
---@return number
function macp.round(n, digits) end

---@return string
function macp.trim(text) end

---Hexadecimal SHA-256.
---@return string
function macp.sha256(text) end

---@return string
function macp.hex(bytes) end

---@return string
function macp.base64(bytes) end

---Canonical JSON: sorted keys, no white space.
---@return string
function macp.json_encode(value) end

function macp.json_decode(text) end

---A line for the debug log; dropped during replay.
function macp.log(format, ...) end

return macp
