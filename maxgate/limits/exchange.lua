-- One exchange of a holder with the counters that gateways share.
--
-- The rules are those of memory_table.py; tests/contract compares them. A counter is a hash: field
-- `base` has what forgotten holders have used, and the field of each holder `used:held`. Times are
-- those of the Redis server, in milliseconds.
--
-- KEYS: sorted set of holders by the end of their lease, the table's birth, and the counters.
-- ARGV: holder, lease time, time after which holders are forgotten, known birth, birth of a new
-- table, number of counters; of each counter the time of its end (0 for none), limit, used, held, wish, 1
-- if takes are used at once, and base (-1 if it is missing); and of each take the number of
-- amounts, and for each of these the counter and the amount.
-- Returns birth, number of holders with a lease, counters whose base is missing, held and others of
-- each counter, and for each take 0 or the counter that refuses it.

local KEEP = 400 * 86400000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder, lease, forget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - forget)
redis.call('ZADD', KEYS[1], now + lease, holder)
local expires, alive = {}, 0
local holders = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #holders, 2 do
  expires[holders[i]] = tonumber(holders[i + 1])
  if expires[holders[i]] > now then
    alive = alive + 1
  end
end
redis.call('SET', KEYS[2], ARGV[5], 'NX')
local birth = redis.call('GET', KEYS[2])

local position = 6
local function read()
  position = position + 1
  return tonumber(ARGV[position])
end

local counters, missing = {}, {}
for i = 1, tonumber(ARGV[6]) do
  local c = {key = KEYS[i + 2], ends = read(), limit = read(), used = read(), held = read()}
  c.wish, c.charges, c.base = read(), read() == 1, read()
  counters[i] = c
  if c.base < 0 and redis.call('EXISTS', c.key) == 0 then
    missing[#missing + 1] = i
  end
end
if #missing > 0 or (ARGV[4] ~= '' and ARGV[4] ~= birth) then
  return {birth, alive, missing, {}, {}}
end

for _, c in ipairs(counters) do
  c.others = 0
  local fields = redis.call('HGETALL', c.key)
  if #fields == 0 then
    c.others = math.max(c.base, 0)
    redis.call('HSET', c.key, 'base', string.format('%.0f', c.others))
  end
  for i = 1, #fields, 2 do
    local name = fields[i]
    if name == 'base' then
      c.others = c.others + tonumber(fields[i + 1])
    elseif name ~= holder then
      local used, held = string.match(fields[i + 1], '^(-?%d+):(-?%d+)$')
      c.others = c.others + tonumber(used)
      if not expires[name] then
        redis.call('HINCRBY', c.key, 'base', used)
        redis.call('HDEL', c.key, name)
      elseif expires[name] > now then
        c.others = c.others + tonumber(held)
      end
    end
  end
  c.total = c.others + c.used + c.held
end

local refused = {}
while position < #ARGV do
  local take, cause = {}, 0
  for i = 1, read() do
    take[i] = {index = read(), amount = read()}
  end
  for _, part in ipairs(take) do
    local c = counters[part.index]
    if c.total + part.amount > c.limit or c.total >= c.limit then
      cause = part.index
      break
    end
  end
  if cause == 0 then
    for _, part in ipairs(take) do
      local c = counters[part.index]
      c.total = c.total + part.amount
      if c.charges then
        c.used = c.used + part.amount
      else
        c.held = c.held + part.amount
      end
    end
  end
  refused[#refused + 1] = cause
end

local states = {}
for _, c in ipairs(counters) do
  c.held = c.held + math.max(math.min(c.wish, c.limit - c.total), 0)
  redis.call('HSET', c.key, holder, string.format('%.0f:%.0f', c.used, c.held))
  redis.call('PEXPIREAT', c.key, string.format('%.0f', c.ends > 0 and c.ends or now + KEEP))
  states[#states + 1] = c.held
  states[#states + 1] = c.others
end
return {birth, alive, missing, states, refused}
