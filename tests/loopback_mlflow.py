"""An MLflow server on the loopback address that the real client can talk to: just enough to have a run, its figures
and its artifacts, and to fall silent in the middle of it. `behaviour` and `then` are as for `LoopbackWandb`."""
from loopback_wandb import LoopbackWandb

TOKEN = 'mlflow' * 6


class LoopbackMlflow(LoopbackWandb):
    def env(self):
        return {'MLFLOW_TRACKING_URI': self.url, 'MLFLOW_TRACKING_TOKEN': TOKEN,
                'NO_PROXY': '127.0.0.1,localhost', 'no_proxy': '127.0.0.1,localhost'}

    def answer(self, path, asked):
        "The answer to one request, of the kinds that the client makes."
        if 'metrics' in asked: self.behaviour = self.then
        if 'experiments/get-by-name' in path: return dict(experiment=dict(experiment_id='1', name='libdocs'))
        if '/runs/' not in path: return {}
        info = dict(run_id='a' * 32, run_uuid='a' * 32, experiment_id='1', status='RUNNING', lifecycle_stage='active',
                    artifact_uri='mlflow-artifacts:/1/run/artifacts')
        return dict(run=dict(info=info, data={}), run_info=info)
