"""What `chunkspool doctor` finds: it reads the state of a deployment, and judges what it has read."""
