"""A rank that ends with its launcher, and is otherwise never done."""

import time

from regmix_hf.jobs.ranks import end_with_launcher

end_with_launcher()
print("watching", flush=True)
time.sleep(60)
