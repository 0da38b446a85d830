"""The programs of `lact-asr`, one file each; `options` are the flags that several of them share."""
