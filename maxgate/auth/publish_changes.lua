-- Adds changed ids to a sorted set, and drops old ones.
-- KEYS[1]: the set. ARGV: seconds to keep an id, most ids to keep, ids...
-- Scores are milliseconds of the server's clock; they increase even if that is set back.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local score = math.max(now, (tonumber(last[2]) or 0) + 1)
for index = 3, #ARGV do
  redis.call('ZADD', KEYS[1], score, ARGV[index])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', score - ARGV[1] * 1000)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 1000)
return score
