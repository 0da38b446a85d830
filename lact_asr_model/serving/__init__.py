"""Recognition over HTTP, in the format of OpenAI's audio API, and live captions."""
