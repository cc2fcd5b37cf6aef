# The image of cluster.yaml and clusters/kuberay.yaml: Ray, layerwise and its locked dependencies.
# torch brings CUDA 13 with it, and the machine the driver: 580 or newer.
#
#   git archive HEAD | docker build --tag registry.example/layerwise:0.1.0 -
#
# The tests compare its versions with those of the cluster files: no test builds it.
FROM rayproject/ray:2.60.0-py311-cu128
WORKDIR /home/ray/layerwise
COPY --chown=ray:users requirements requirements
RUN pip install --no-cache-dir --require-hashes --no-deps \
    -r requirements/torch.lock -r requirements/run.lock
COPY --chown=ray:users . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
