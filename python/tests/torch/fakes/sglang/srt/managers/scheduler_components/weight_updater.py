"""Who answers it in a rank."""

from sglang.srt.managers.io_struct import CheckWeightsReqOutput


class SchedulerWeightUpdaterManager:
    tp_cpu_group = None

    def check_weights(self, recv_req):
        return CheckWeightsReqOutput(success=True, message="Success.")
