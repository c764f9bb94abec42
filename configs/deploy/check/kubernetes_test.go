package check

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// serviceMonitor is the ServiceMonitor of the Prometheus operator with the fields that ours use. The
// operator's own types need a version of a library that is not always to be had.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// kustomization has the fields that ours use.
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Namespace       string              `json:"namespace"`
	Resources       []string            `json:"resources"`
	Images          []map[string]string `json:"images"`
	Patches         []struct {
		Target map[string]string `json:"target"`
		Patch  string            `json:"patch"`
	} `json:"patches"`
}

// objects are all objects of the folder, and of its examples, by kind and name.
type objects struct {
	deployments map[string]*appsv1.Deployment
	services    map[string]*corev1.Service
	configs     map[string]*corev1.ConfigMap
	secrets     map[string]*corev1.Secret
	budgets     map[string]*policyv1.PodDisruptionBudget
	policies    map[string]*networkingv1.NetworkPolicy
	scalers     map[string]*autoscalingv2.HorizontalPodAutoscaler
	monitors    map[string]*serviceMonitor
}

func add[T any](t *testing.T, file, text string, into map[string]*T, name func(*T) metav1.ObjectMeta) {
	t.Helper()
	var object T
	mustDecode(t, file, text, &object)
	meta := name(&object)
	if meta.Name == "" || meta.Namespace != "wxcourier" || into[meta.Name] != nil {
		t.Errorf("%s: %q in the namespace %q has no name, is there twice, or belongs elsewhere", file, meta.Name, meta.Namespace)
	}
	into[meta.Name] = &object
}

// readObjects decodes the files that both kustomizations name, and the examples of Secrets.
func readObjects(t *testing.T) objects {
	t.Helper()
	o := objects{
		make(map[string]*appsv1.Deployment), make(map[string]*corev1.Service), make(map[string]*corev1.ConfigMap), make(map[string]*corev1.Secret),
		make(map[string]*policyv1.PodDisruptionBudget), make(map[string]*networkingv1.NetworkPolicy),
		make(map[string]*autoscalingv2.HorizontalPodAutoscaler), make(map[string]*serviceMonitor),
	}
	files := []string{"secrets.example.yaml"}
	for _, folder := range []string{"", "monitoring"} {
		var k kustomization
		mustDecode(t, "kustomization.yaml", read(t, deploy, "kubernetes", folder, "kustomization.yaml"), &k)
		for _, name := range k.Resources {
			files = append(files, filepath.Join(folder, name))
		}
	}
	for _, file := range files {
		for _, text := range strings.Split(read(t, deploy, "kubernetes", file), "\n---\n") {
			o.decode(t, file, text)
		}
	}
	return o
}

func (o objects) decode(t *testing.T, file, text string) {
	t.Helper()
	var kind struct {
		metav1.TypeMeta `json:",inline"`
		Rest            map[string]any `json:"-"`
	}
	_ = decode(text, &kind) // its other fields are unknown here
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 Deployment":
		add(t, file, text, o.deployments, func(d *appsv1.Deployment) metav1.ObjectMeta { return d.ObjectMeta })
	case "v1 Service":
		add(t, file, text, o.services, func(s *corev1.Service) metav1.ObjectMeta { return s.ObjectMeta })
	case "v1 ConfigMap":
		add(t, file, text, o.configs, func(c *corev1.ConfigMap) metav1.ObjectMeta { return c.ObjectMeta })
	case "v1 Secret":
		add(t, file, text, o.secrets, func(s *corev1.Secret) metav1.ObjectMeta { return s.ObjectMeta })
	case "policy/v1 PodDisruptionBudget":
		add(t, file, text, o.budgets, func(b *policyv1.PodDisruptionBudget) metav1.ObjectMeta { return b.ObjectMeta })
	case "networking.k8s.io/v1 NetworkPolicy":
		add(t, file, text, o.policies, func(p *networkingv1.NetworkPolicy) metav1.ObjectMeta { return p.ObjectMeta })
	case "autoscaling/v2 HorizontalPodAutoscaler":
		add(t, file, text, o.scalers, func(h *autoscalingv2.HorizontalPodAutoscaler) metav1.ObjectMeta { return h.ObjectMeta })
	case "monitoring.coreos.com/v1 ServiceMonitor":
		add(t, file, text, o.monitors, func(m *serviceMonitor) metav1.ObjectMeta { return m.ObjectMeta })
	case "v1 Namespace":
		var namespace corev1.Namespace
		mustDecode(t, file, text, &namespace)
		if namespace.Name != "wxcourier" {
			t.Errorf("%s: %s", file, namespace.Name)
		}
	default:
		t.Errorf("%s: there is no check of %s %s", file, kind.APIVersion, kind.Kind)
	}
}

var parts = []string{"wxcourier-gateway", "wxcourier-worker"}

// TestKubernetes: the files decode strictly and fit each other.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	o := readObjects(t) // namespace.yaml configmap.yaml worker.yaml gateway.yaml networkpolicy.yaml servicemonitor.yaml autoscaler.yaml
	for kind, names := range map[string][]string{
		"Deployment": slices.Sorted(maps.Keys(o.deployments)), "Service": slices.Sorted(maps.Keys(o.services)),
		"PodDisruptionBudget": slices.Sorted(maps.Keys(o.budgets)), "NetworkPolicy": slices.Sorted(maps.Keys(o.policies)),
		"ServiceMonitor": slices.Sorted(maps.Keys(o.monitors)),
	} {
		if !slices.Equal(names, parts) {
			t.Errorf("%s: %v, want %v", kind, names, parts)
		}
	}
	for _, name := range parts {
		if o.deployments[name] == nil || o.services[name] == nil {
			t.Fatal("see above")
		}
		d, pod := o.deployments[name], labels.Set(o.deployments[name].Spec.Template.Labels)
		for what, selector := range map[string]*metav1.LabelSelector{
			"Deployment": d.Spec.Selector, "PodDisruptionBudget": o.budgets[name].Spec.Selector, "NetworkPolicy": &o.policies[name].Spec.PodSelector,
			"Service": {MatchLabels: o.services[name].Spec.Selector}, "spread": d.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector,
		} {
			if s, err := metav1.LabelSelectorAsSelector(selector); err != nil || s.Empty() || !s.Matches(pod) {
				t.Errorf("%s: the selector of its %s does not match its pods: %v", name, what, err)
			}
		}
		s, err := metav1.LabelSelectorAsSelector(&o.monitors[name].Spec.Selector)
		if err != nil || !s.Matches(labels.Set(o.services[name].Labels)) {
			t.Errorf("%s: its ServiceMonitor does not find its Service: %v", name, err)
		}
		for other := range o.services {
			if other != name && s.Matches(labels.Set(o.services[other].Labels)) {
				t.Errorf("the ServiceMonitor %s also finds %s", name, other)
			}
		}
		if endpoint := o.monitors[name].Spec.Endpoints[0]; endpoint.Path != "/metrics" || endpoint.Port != o.services[name].Spec.Ports[0].Name {
			t.Errorf("%s: ServiceMonitor %+v", name, endpoint)
		}
		port := o.policies[name].Spec.Ingress[0].Ports[0].Port
		if container := d.Spec.Template.Spec.Containers[0]; port.IntVal != container.Ports[0].ContainerPort || o.services[name].Spec.Ports[0].TargetPort.StrVal != container.Ports[0].Name {
			t.Errorf("%s: NetworkPolicy, Service and container have different ports", name)
		}
	}
	scaler := o.scalers["wxcourier-worker"].Spec
	if target := scaler.ScaleTargetRef; target.Kind != "Deployment" || o.deployments[target.Name] == nil {
		t.Errorf("the autoscaler scales %+v", target)
	}
	if metric := scaler.Metrics[0].External.Metric.Name; !strings.Contains(adapterQuery(t), metric) {
		t.Errorf("adapter-values.yaml does not provide %s", metric)
	}
	var k kustomization
	mustDecode(t, "monitoring", read(t, deploy, "kubernetes/monitoring/kustomization.yaml"), &k)
	if len(k.Patches) != 1 || o.deployments[k.Patches[0].Target["name"]] == nil {
		t.Errorf("monitoring patches %+v", k.Patches)
	}
}

// TestKubernetesPods: pods are restricted, their volumes exist, and they get the time to stop.
func TestKubernetesPods(t *testing.T) {
	t.Parallel()
	o := readObjects(t)
	for name, d := range o.deployments {
		pod := d.Spec.Template.Spec
		container := pod.Containers[0]
		if sc := pod.SecurityContext; !*sc.RunAsNonRoot || *sc.RunAsUser != 65532 || *sc.FSGroup != 65532 || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security %+v", name, sc)
		}
		if sc := container.SecurityContext; *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: container security %+v", name, sc)
		}
		if *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
			t.Errorf("%s gets a token or the variables of services", name)
		}
		if !strings.Contains(read(t, root, "Dockerfile"), "USER 65532:65532") {
			t.Error("the Dockerfile has another user")
		}
		ready, alive := container.ReadinessProbe.HTTPGet, container.LivenessProbe.HTTPGet
		if ready.Path != "/readyz" || alive.Path != "/healthz" || ready.Port.StrVal != container.Ports[0].Name || alive.Port.StrVal != container.Ports[0].Name {
			t.Errorf("%s: probes %+v %+v", name, ready, alive)
		}
		mounted := make(map[string]bool)
		for _, mount := range container.VolumeMounts {
			mounted[mount.Name] = mount.ReadOnly && mount.SubPath == ""
		}
		for _, v := range pod.Volumes {
			switch {
			case !mounted[v.Name]:
				t.Errorf("%s: the volume %s is not mounted, or may be written, or never changes", name, v.Name)
			case v.ConfigMap != nil && o.configs[v.ConfigMap.Name] == nil:
				t.Errorf("%s: no ConfigMap %s", name, v.ConfigMap.Name)
			case v.Secret != nil && (o.secrets[v.Secret.SecretName] == nil || *v.Secret.DefaultMode != 0o440):
				t.Errorf("%s: Secret %+v", name, v.Secret)
			}
		}
		if len(mounted) != len(pod.Volumes) {
			t.Errorf("%s: %d volumes, %d mounts", name, len(pod.Volumes), len(mounted))
		}
	}
}

// TestKubernetesRuns runs the commands of the pods with their ConfigMap and Secrets, without a
// cluster.
func TestKubernetesRuns(t *testing.T) {
	t.Parallel()
	o := readObjects(t)
	redis := startRedis(t)
	for name, d := range o.deployments {
		pod := d.Spec.Template.Spec
		container := pod.Containers[0]
		m := newMachine(t, "redis:6379", redis)
		for _, mount := range container.VolumeMounts {
			for _, v := range pod.Volumes {
				if v.Name != mount.Name {
					continue
				}
				files := map[string]string{}
				if v.ConfigMap != nil {
					files = o.configs[v.ConfigMap.Name].Data
				} else if v.Secret != nil {
					files = o.secrets[v.Secret.SecretName].StringData
				}
				for file, text := range files {
					m.put(t, mount.MountPath+"/"+file, text)
				}
			}
		}
		if got := strings.TrimSpace(o.secrets["wxcourier-redis"].StringData["password"]); got != password {
			t.Fatalf("the example's password of Redis is %q", got)
		}
		cfg := m.loadConfig(t, container.Args[slices.Index(container.Args, "-c")+1])
		needed := max(cfg.Worker.ShutdownTimeout, cfg.Gateway.ShutdownTimeout)
		if l := container.Lifecycle; l != nil {
			needed += time.Duration(l.PreStop.Sleep.Seconds) * time.Second
		}
		if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace <= needed {
			t.Errorf("%s: a grace of %v, and up to %v are needed", name, grace, needed)
		}
		start := service{args: container.Args, healthURL: "http://127.0.0.1:" + strconv.Itoa(int(container.Ports[0].ContainerPort)) + "/readyz"}
		if name == "wxcourier-gateway" {
			start.ready = func() { checkHosts(t, "http://127.0.0.1:"+m.ports["8080"]+"/v1/lanes") }
		}
		m.start(t, start)
	}
}

// checkHosts checks that the gateway knows the names of its Service, and no others.
func checkHosts(t *testing.T, url string) {
	t.Helper()
	for host, want := range map[string]int{
		"wxcourier-gateway:8080": http.StatusUnauthorized, "wxcourier-gateway.wxcourier:8080": http.StatusUnauthorized,
		"wxcourier-gateway.wxcourier.svc:8080": http.StatusUnauthorized, "wxcourier-gateway.wxcourier.svc.cluster.local:8080": http.StatusUnauthorized,
		"other.example.com": http.StatusForbidden,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a request without a key for %s is answered %s, want %d", host, response.Status, want)
		}
	}
}
