// Injected before the page: an emulated Quest 3 (IWER) and handles for the tests. Nothing of it is in the product.
(() => {
  const device = new IWER.XRDevice(IWER.metaQuest3);
  // Headless Chromium has a navigator.xr of its own, without hardware.
  device.installRuntime({ forceInstall: true });
  const right = device.controllers.right;
  // The emulator calls every position emulated; a real controller's is not.
  right.inputSource.gripSpace[IWER.P_SPACE].emulated = false;
  device.position.set(0, 1.6, 0);
  right.position.set(0.2, 1.2, -0.4);

  const quest = {
    device,
    right,
    pulses: [],
    // The XRFrame returns no pose of the controller while this is set, as on a headset that does not see it.
    nullPose: false,
    emulated(value) {
      right.inputSource.gripSpace[IWER.P_SPACE].emulated = value;
    },
    freeze(milliseconds) {
      const end = performance.now() + milliseconds;
      while (performance.now() < end);
    },
  };
  const getPose = XRFrame.prototype.getPose;
  XRFrame.prototype.getPose = function (...spaces) {
    const lost = quest.nullPose && spaces[0] === right.inputSource.gripSpace;
    return lost ? undefined : getPose.apply(this, spaces);
  };
  const actuator = right.inputSource.gamepad.hapticActuators[0];
  const pulse = actuator.pulse.bind(actuator);
  actuator.pulse = (strength, milliseconds) => {
    quest.pulses.push([strength, milliseconds]);
    return pulse(strength, milliseconds);
  };
  window.quest = quest;
})();
