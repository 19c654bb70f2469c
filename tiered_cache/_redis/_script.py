"""The rule of `_rule.apply` in Lua, for a whole batch at a time.

What differs from the pure rule: a key that holds what no front puts there (another type, an empty string, no expiry)
counts as empty and is emptied; and where the server refuses to store a cell (out of memory), the key is emptied, which
is always safe, and the batch ends in the server's error once all its steps have been taken.

Only equality of strings is asked for: their order would depend on the server's locale.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

#: KEYS: one for each step. ARGV: the token, the lifetime of a mark, then op, arg and ttl of each step.
SCRIPT: Final = rb"""
local token, mark_ttl = ARGV[1], tonumber(ARGV[2])
local failure = false

local function drop(key)
  local reply = redis.pcall('DEL', key)
  if type(reply) == 'table' then failure = reply end
end

local function hold(key, cell, ms)
  local reply
  if ms then
    reply = redis.pcall('SET', key, cell, 'PX', string.format('%.0f', ms))
  else
    reply = redis.pcall('SET', key, cell, 'KEEPTTL')
  end
  if reply.err then
    drop(key)
    failure = reply
    return false
  end
  return true
end

local function held(key)
  local cell = redis.pcall('GET', key)
  if not cell then return false, 0 end
  local left = -1
  if type(cell) == 'string' and cell ~= '' then left = redis.call('PTTL', key) end
  if left < 0 then
    drop(key)
    return false, 0
  end
  return cell, left
end

local function is_writers_mark(cell)
  return string.sub(cell, 1, 1) == 'W' and #cell >= 18 and (#cell - 2) % 16 == 0
end

local function others(cell)
  local found, rest = false, {}
  for i = 3, #cell, 16 do
    local each = string.sub(cell, i, i + 15)
    if each == token then found = true else rest[#rest + 1] = each end
  end
  return found, table.concat(rest)
end

local function put(key, left, value, ttl)
  local ms = ttl - math.max(0, mark_ttl - left)
  if value == '' or ms <= 0 then
    drop(key)
    return false
  end
  return hold(key, value, ms)
end

local take = {}

take['r'] = function(key, cell, left, arg, ttl)
  local mine = 'R' .. token
  if not cell or (arg ~= '' and string.sub(cell, 1, 9) == arg) then return hold(key, mine, mark_ttl) end
  return cell == mine
end

take['w'] = function(key, cell, left, arg, ttl)
  if not cell or not is_writers_mark(cell) then return hold(key, 'W0' .. token, mark_ttl) end
  if others(cell) then return true end
  local joined = 'W1' .. string.sub(cell, 3) .. token
  if string.sub(cell, 2, 2) == '0' and left < mark_ttl then return hold(key, joined, mark_ttl) end
  return hold(key, joined)
end

take['R'] = function(key, cell, left, arg, ttl)
  return cell == 'R' .. token and put(key, left, arg, ttl)
end

take['W'] = function(key, cell, left, arg, ttl)
  if not cell then return false end
  if not is_writers_mark(cell) then
    drop(key)
    return false
  end
  local found, rest = others(cell)
  if rest ~= '' then
    hold(key, 'W1' .. rest)
    return false
  end
  if string.sub(cell, 2, 2) ~= '0' then
    drop(key)
    return false
  end
  return put(key, left, arg, ttl)
end

local answers = {}
for i, key in ipairs(KEYS) do
  local cell, left = held(key)
  local done = take[ARGV[3 * i]](key, cell, left, ARGV[3 * i + 1], tonumber(ARGV[3 * i + 2]))
  answers[i] = done and 1 or 0
end
return failure or answers
"""

SCRIPT_ID: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()
