"""The connection server: one backup channel a job, and the feeds of one file server after the other.

`channel` is what a job has here, `channel_service` the entry server's hold on it, `feed_service` one part's
way in or out, `router` a restore's way from the channel to the feeds.
"""
