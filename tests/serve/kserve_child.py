"""Run by the Python that has KServe's SDK: asks a server by its clients and prints what they answered as JSON.

`kserve_child.py URL HOST:PORT`; the model is `m` with its four numbers.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]])


def request(*, binary):
    given = InferInput("features", [2, 4], "FP64")
    given.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest("m", [given], request_id="7", parameters={"binary_data_output": binary})


def told(response):
    return {output.name: output.as_numpy().ravel().tolist() for output in response.outputs} | {"id": response.id}


async def main(url, address):
    rest, grpc = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(url=address)
    answers = {
        "rest live": await rest.is_server_live(url),
        "rest ready": await rest.is_server_ready(url),
        "rest model": await rest.is_model_ready(url, "m"),
        "grpc live": await grpc.is_server_live(),
        "grpc ready": await grpc.is_server_ready(),
        "grpc model": await grpc.is_model_ready("m"),
        "rest json": told(await rest.infer(url, request(binary=False), model_name="m")),
        "rest bytes": told(await rest.infer(url, request(binary=True), model_name="m")),
        "grpc raw": told(await grpc.infer(request(binary=True))),
        "grpc contents": told(await grpc.infer(request(binary=False))),
    }
    await rest.close()
    await grpc.close()
    sys.stdout.write(json.dumps(answers) + "\n")


asyncio.run(main(*sys.argv[1:]))
